-- What fault specs share: killing backends, waiting for what a fault sets off, and the ledger that
-- every fault must leave in order.
local moonpool = require "moonpool"
local test     = require "moonpool.test"

local fault = {}

--- Ends a backend and waits until it is gone.
---@param pid integer
function fault.kill(pid)
  assert(test.admin().value("select pg_terminate_backend($1, 10000)", pid),
         "the backend did not end")
end

--- A function that runs `fn` in a task started here, and waits for it: an operation with a tenant,
--- and what it starts, has no connection but its own. The second function ends the task.
function fault.outside()
  local work, over, ok, result
  local task = moonpool.spawn(function()
    while not over do
      if work then
        ok, result = pcall(work)
        work = nil
      end
      moonpool.sleep(0)
    end
  end)
  return function(fn)
    work = fn
    while work do moonpool.sleep(0) end
    return ok or error(result, 0)
  end, function()
    over = true
    task:wait()
  end
end

--- A function that kills a backend from outside of the operation that calls it, and one that ends
--- what it needs.
function fault.killer()
  local outside, done = fault.outside()
  return function(pid) outside(function() fault.kill(pid) end) end, done
end

--- Waits until a backend executes pg_sleep, then ends it.
---@param pid fun(): integer?
function fault.kill_sleeping(pid)
  local gone
  repeat
    gone = test.admin().value([[
      select pg_terminate_backend(pid, 10000) from pg_stat_activity
       where pid = $1::int and state = 'active' and wait_event = 'PgSleep']], pid())
  until gone
end

--- Ends every backend of the application role, whoever has it.
---@return integer how many
function fault.kill_all(role)
  return test.admin().value([[
    select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity
     where usename = $1 and backend_type = 'client backend']], role)
end

--- The role that moonpool.db connects as.
function fault.role()
  return moonpool.host.app_url:match "^%a+://([^:@/]+)"
end

--- Asks until `fn` gives a true value; each question is answered by the database, so the host's
--- loop turns in between.
function fault.eventually(what, fn)
  local patience = moonpool.host.clock() + 30 -- a busy machine is no fault
  repeat
    local value = fn()
    if value then return value end
    test.admin().value "select 1"
  until moonpool.host.clock() > patience
  error("never came true: " .. what, 2)
end

--- Nothing of what ran is left in the host: for after_each and the end of a file.
function fault.assert_quiet()
  fault.eventually("the pool is quiet", function()
    local pool, transactions = moonpool.metrics.pool(), moonpool.metrics.transactions()
    return pool.active_connections == 0 and pool.waiting_clients == 0 and pool.parked == 0
       and transactions.live_transactions == 0
  end)
end

--- What a dealership's tables hold, for comparison before and after.
function fault.snapshot(dealership)
  local rows = {}
  for _, name in ipairs { "customers", "deals", "deal_scenarios", "audit_log",
                          "deal_number_sequences" } do
    rows[name] = dealership:count(name)
  end
  return rows
end

--- Every deal of the dealership has its scenario and its audit entry, the numbers run from 1
--- without a gap or a duplicate, nothing is left of a deal that is not there; gives the deals by
--- id.
---@return table<string, string> numbers by id of the deal
---@return integer count
function fault.assert_ledger(dealership)
  local deals = dealership:transaction(function(tx)
    return tx:query([[
      with s as materialized (select id, deal_id from deal_scenarios where dealership_id = $1),
           a as materialized (select entity_id, count(*) as n from audit_log
                               where dealership_id = $1 and entity_type = 'deal' group by entity_id)
      select d.id, d.deal_number, substring(d.deal_number from '\d+$')::int as sequence,
             (s.id is not null)::int as scenarios, coalesce(a.n, 0) as entries
        from deals d
        left join s on s.id = d.active_scenario_id and s.deal_id = d.id
        left join a on a.entity_id = d.id
       where d.dealership_id = $1 order by sequence]], dealership.id)
  end)
  local numbers = {}
  for i, deal in ipairs(deals) do
    assert(deal.sequence == i,
           ("deal %d of the ledger has the number %s"):format(i, deal.deal_number))
    assert(deal.scenarios == 1,
           ("deal %s has %d active scenarios"):format(deal.deal_number, deal.scenarios))
    assert(deal.entries == 1,
           ("deal %s has %d audit entries"):format(deal.deal_number, deal.entries))
    numbers[deal.id] = deal.deal_number
  end
  local rest = dealership:transaction(function(tx)
    return tx:first([[
      select (select count(*) from deal_scenarios where dealership_id = $1) as scenarios,
             (select count(*) from audit_log where dealership_id = $1
               and entity_type = 'deal') as entries,
             (select count(*) from (select id from customers where dealership_id = $1
                                    except select customer_id from deals
                                      where dealership_id = $1) c) as orphans,
             (select max(current_sequence) from deal_number_sequences
               where dealership_id = $1) as sequence]], dealership.id)
  end)
  assert(rest.scenarios == #deals, ("%d scenarios for %d deals"):format(rest.scenarios, #deals))
  assert(rest.entries == #deals, ("%d audit entries for %d deals"):format(rest.entries, #deals))
  assert(rest.orphans == 0, ("%d customers without a deal"):format(rest.orphans))
  assert((rest.sequence or 0) == #deals,
         ("the sequence stands at %s after %d deals"):format(rest.sequence, #deals))
  return numbers, #deals
end

return fault
