-- moonpool.serve.crew: the workers of the host together, for the host's own pages. The front reads
-- the numbers of all (numbers), and asks the others for what only they keep (ask).
local host    = require "moonpool.host"
local json    = require "moonpool.json"
local lending = require "moonpool.serve.lending"

local crew = {}

local ASK_S = 2

--- True in the front of a host that has other workers; false everywhere else.
function crew.many() return (host.workers or 1) > 1 end

--- Brings the numbers of all workers together; metrics, pool and totals are the host's afterwards.
--- Returns the number of a worker that did not answer within `seconds`, or nil; and that of one
--- that takes no calls any more.
---@param seconds? number  default 1
---@return integer?
---@return integer?
function crew.numbers(seconds)
  if crew.many() then return host.gather(seconds or 1) end
end

local silent, silent_for

--- Called once a second: brings the numbers together. Says why the host cannot go on: a worker has
--- not answered for `limit` seconds, so that it must be taken for hung, or has ended by itself.
---@param limit number
---@return string?
function crew.lost(limit)
  local late, gone = crew.numbers()
  if gone and not host.stopping() then return ("worker %d has ended"):format(gone) end
  if not late or late ~= silent then
    silent, silent_for = late, late and host.clock()
  elseif host.clock() - silent_for > limit then
    return ("worker %d does not answer any more"):format(late)
  end
end

local limit -- of connections, of all workers together

--- Called once a second, after `numbers`: shares out the connections by need.
function crew.lend()
  if not crew.many() then return end
  local pools = host.pools()
  if not pools[host.workers] then return end -- one has not answered yet
  if not limit then
    limit = 0
    for _, pool in ipairs(pools) do limit = limit + pool.max end
  end
  for i, max in ipairs(lending.shares(pools, limit)) do
    local min = math.min(pools[i].min, max)
    if max == pools[i].max then
      goto next
    elseif i == 1 then
      host.resize(min, max)
    else
      crew.tell(i - 1, { what = "resize", min = min, max = max })
    end
    ::next::
  end
end

--- What worker `worker` answers to moonpool.watch.kept; nil if it does not answer.
function crew.tell(worker, question)
  local ok, text = host.generations.call("kept", json.encode(question),
    { entry = "moonpool.watch.kept", worker = worker, timeout = ASK_S })
  if ok then return json.decode(text) end
  if not host.stopping() then
    host.log("warn", ("worker %d does not answer: %s"):format(worker, text))
  end
end

--- Asks each other worker -> an array of { worker =, answer = }.
function crew.ask(question)
  local answers, questions = {}, {}
  for worker = 1, crew.many() and host.workers - 1 or 0 do
    questions[#questions + 1] = function()
      local answer = crew.tell(worker, question) -- other tasks add theirs meanwhile
      answers[#answers + 1] = { worker = worker, answer = answer }
    end
  end
  if questions[1] then host.all(questions) end
  return answers
end

--- This worker's list with those of the others: `answer` is { list = { … } }. `prepare(entry,
--- worker)` is called for each entry of another worker; `before(a, b)` sorts.
function crew.together(list, question, before, prepare)
  local answers = crew.ask(question)
  if not answers[1] then return list end
  for _, entry in ipairs(list) do entry.worker = 0 end
  for _, one in ipairs(answers) do
    for _, entry in ipairs(one.answer and one.answer.list or {}) do
      entry.worker = one.worker
      if prepare then prepare(entry, one.worker) end
      list[#list + 1] = entry
    end
  end
  table.sort(list, before)
  for i = #list, question.limit + 1, -1 do list[i] = nil end
  return list
end

return crew
