-- update_email_status: what it changes, what it writes down, what it refuses.
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local hostile    = require "spec.support.workload.hostile"
local moonpool   = require "moonpool"

describe("update_email_status", function()
  local ours, message

  before_each(function()
    ours = dealership.new()
    message = ours:email_message()
  end)

  local function input(values)
    local all = { dealership_id = ours.id, message_id = message.id, user_id = ours.salesperson.id,
                  status = "queued" }
    for name, value in pairs(values or {}) do all[name] = value end
    return all
  end

  local function update(values, options)
    return moonpool.call("update_email_status", input(values), options).message
  end

  local function stored() return ours:rows("email_messages", { id = message.id })[1] end

  local function nothing_left()
    assert.are.equal("draft", stored().status)
    assert.are.equal(0, ours:count "audit_log")
  end

  for _, status in ipairs { "queued", "sent", "delivered", "opened", "bounced", "failed",
                            "received" } do
    it("makes a message " .. status, function()
      assert.are.equal(status, update { status = status }.status)
      assert.are.equal(status, stored().status)
      assert.are.equal(status == "sent", stored().sent_at ~= nil)
    end)
  end

  it("keeps the time of the first sent", function()
    local first = update { status = "sent" }.sent_at
    update { status = "queued" }
    assert.are.equal(first, update { status = "sent" }.sent_at)
    assert.are.equal(first, stored().sent_at)
  end)

  it("keeps the reason of a failure until the message goes on", function()
    assert.are.equal("mailbox full",
                     update { status = "bounced", error_message = "mailbox full" }.error_message)
    assert.are.equal("mailbox full", update { status = "failed" }.error_message)
    assert.is_nil(update { status = "queued" }.error_message)
  end)

  it("refuses a reason for what did not fail", function()
    local e = failure(update, { status = "sent", error_message = "why" })
    assert.are.equal("VALIDATION_ERROR", e.code)
    assert.are.equal("errorMessage: goes with the status bounced or failed only", e.message)
    nothing_left()
  end)

  it("leaves an audit entry with the old and the new status", function()
    local deal = ours:deal()
    message = ours:email_message { deal_id = deal.id }
    update { status = "queued" }
    update { status = "sent" }
    local entries = ours:rows("audit_log", { entity_id = message.id, new_value = "sent" })
    assert.are.equal(1, #entries)
    local entry = entries[1]
    assert.are.equal("update", entry.action)
    assert.are.equal("email_message", entry.entity_type)
    assert.are.equal("status", entry.field_name)
    assert.are.equal("queued", entry.old_value)
    assert.are.equal(deal.id, entry.deal_id)
    assert.are.equal(ours.salesperson.id, entry.user_id)
  end)

  it("leaves one for the reason of a failure, too", function()
    update { status = "bounced", error_message = "mailbox full" }
    update { status = "bounced", error_message = "no such mailbox" }
    update { status = "queued" }
    local told = {}
    for _, entry in ipairs(ours:rows("audit_log", { field_name = "error_message" })) do
      told[#told + 1] = tostring(entry.old_value) .. " -> " .. tostring(entry.new_value)
    end
    table.sort(told)
    assert.are.same({ "mailbox full -> no such mailbox", "nil -> mailbox full",
                      "no such mailbox -> nil" }, told)
    assert.are.equal(2, ours:count("audit_log", { field_name = "status" }))
  end)

  it("names the caller in it", function()
    local manager = ours:user()
    update({}, { tenant = ours.id, as = manager.id })
    assert.are.equal(manager.id, ours:rows("audit_log")[1].user_id)
  end)

  it("changes and notes nothing when the status is the same", function()
    local before = stored().updated_at
    assert.are.equal("draft", update { status = "draft" }.status)
    assert.are.equal(before, stored().updated_at)
    nothing_left()
  end)

  it("takes two round trips", function()
    update { status = "queued" }
    local _, info = moonpool.call_info("update_email_status", input { status = "sent" })
    assert.are.equal(2, info.round_trips)
  end)

  it("needs somebody who acts", function()
    local all = input()
    all.user_id = nil
    local e = failure(moonpool.call, "update_email_status", all)
    assert.are.equal("userId: is required where no caller is known", e.message)
    nothing_left()
  end)

  it("knows no other dealerships", function()
    local theirs = dealership.new()
    local foreign = theirs:email_message()
    hostile.foreign("update_email_status", input, "message_id", "E-mail message", foreign.id)
    hostile.foreign("update_email_status", input, "user_id", "User", theirs.salesperson.id)
    local function as_theirs()
      return input { dealership_id = theirs.id, user_id = theirs.salesperson.id }
    end
    hostile.foreign("update_email_status", as_theirs, "message_id", "E-mail message", message.id)
    assert.are.equal("MULTI_TENANT_VIOLATION",
                     failure(update, { dealership_id = theirs.id }, { tenant = ours.id }).code)
    assert.are.equal("draft", theirs:rows("email_messages")[1].status)
    assert.are.equal(0, theirs:count "audit_log")
    nothing_left()
  end)

  describe("given nonsense", function()
    hostile.fields("update_email_status", input, {
      dealership_id = { "uuid", required = true },
      message_id    = { "uuid", required = true },
      user_id       = { "uuid" },
      status        = { "enum", required = true },
    }, { nothing_left = nothing_left })

    hostile.fields("update_email_status", function() return input { status = "failed" } end, {
      error_message = { "text", max = 2000, stored = function(result)
        return result.message.error_message
      end },
    })
  end)
end)
