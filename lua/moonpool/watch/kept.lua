-- moonpool.watch.kept: a worker of the host answers the front here (moonpool.serve.crew): what it
-- keeps of its calls and statements; which of them wait for locks; how many connections it may
-- have. JSON in, JSON out.
local host = require "moonpool.host"
local json = require "moonpool.json"

local answers = {}

function answers.calls(question) return { list = host.calls(question.limit, question.notable) } end

function answers.call(question) return { call = host.call_notes(question.id) } end

function answers.statements(question)
  return { list = host.statements(question.limit, question.at_least, question.part) }
end

function answers.sent(question) return { sql = host.statement_sent(question.number) } end

function answers.waiting(question) return { list = host.backends_waited_for(question.ms) } end

function answers.users(question)
  local list = {}
  for _, backend in ipairs(question.backends) do
    local text = host.backend_user(backend)
    if text then list[#list + 1] = { backend = backend, text = text } end
  end
  return { list = list }
end

function answers.blocked(question)
  for _, one in ipairs(question.blocks) do host.blocked(one.backend, one.holder, one.text) end
  return {}
end

function answers.resize(question)
  host.resize(question.min, question.max)
  return {}
end

return function(_, text)
  local question = json.decode(text)
  return json.encode(answers[question.what](question))
end
