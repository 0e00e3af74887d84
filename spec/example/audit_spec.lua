-- The audit log tells of whatever is altered behind the application's back: each tampering is
-- named. It is done as superuser, without foreign keys, in a transaction that is rolled back after
-- a look. Sealing: audit_sealing_spec.lua.
local audit_log = require "spec.support.data.audit_log"
local moonpool  = require "moonpool"
local seal      = require "lib.seal"

describe("the audit log", function()
  local log, admin, ours, theirs
  local entries                         -- of ours: id and time, as they are sealed: 4, 4 and 2

  local assert_clean = audit_log.assert_clean
  local function after(...) return log.after(...) end
  local function check(...) return log.check(...) end
  local function head_of(...) return log.head_of(...) end

  setup(function()
    log = audit_log.open()
    admin, ours, theirs = log.admin, log.ours, log.theirs
    local add, seal_now = log.add, log.seal_now
    -- From before the horizon that sealing arrives at.
    add(ours, { timestamp = "2026-01-05T10:00:00.000001Z", old_value = "ab", new_value = "c",
                metadata = { n = 1 } })
    add(ours, { timestamp = "2026-01-05T10:00:00.000002Z", old_value = "1:a", new_value = "" })
    add(ours, { field_name = "deal_state", old_value = "DRAFT", new_value = "IN_PROGRESS" })
    add(ours, { old_value = "5:a,-", new_value = "é\u{10FFFF}\n", metadata = { k = "ü" } })
    for i = 5, 10 do add(ours, { new_value = tostring(i) }) end
    add(theirs, { timestamp = "2026-01-05T10:00:00.5Z" })
    for _ = 1, 3 do add(theirs) end
    for _ = 1, 3 do seal_now(ours, 4) end
    for _ = 1, 2 do seal_now(theirs, 3) end
    entries = admin.query([[
      select a.id::text as id, to_char(a.timestamp at time zone 'UTC',
        'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as time
        from audit_log a where a.dealership_id = $1 order by a.timestamp, a.id]], ours.id)
  end)

  teardown(function() log.close() end)

  it("is sealed in the order of time, and verifies", function()
    local report = check(ours)
    assert_clean(report)
    assert.are.same({ 3, 10, 0 }, { report.seals, report.entries, report.pending })
    local lists = admin.query([[
      select e.id::text as id from audit_seals s, unnest(s.entries) with ordinality as e (id, n)
       where s.dealership_id = $1 order by s.seq, e.n]], ours.id)
    for i, entry in ipairs(entries) do assert.are.equal(entry.id, lists[i].id) end
    assert_clean(check(theirs))
  end)

  it("has no column that seals do not cover", function()
    local columns, sealed = {}, {}
    for _, row in ipairs(admin.query [[select attname::text as name from pg_attribute
                                        where attrelid = 'audit_log'::regclass and attnum > 0
                                          and not attisdropped]]) do
      columns[row.name] = true
    end
    for _, name in ipairs(seal.columns) do sealed[name] = true end
    assert.are.same(columns, sealed)
  end)

  describe("names an entry", function()
    local other = "'" .. moonpool.uuid() .. "'"

    -- { column, what it becomes, entry }
    local alterations = {
      { "user_id", other }, { "action", "'delete'" }, { "entity_type", "'Deal'" },
      { "entity_id", other }, { "deal_id", other },
      { "scenario_id", other }, { "field_name", "''" }, { "field_name", "'-'" },
      { "old_value", "'DRAFT '", 3 },
      { "old_value", "null", 3 }, { "old_value", "'1:a,'", 2 }, { "new_value", "null", 2 },
      { "new_value", "new_value || 'x'" },
      { "metadata", [['{"n": 1.0}']], 1 }, { "metadata", [['{"k": "u"}']], 4 },
      { "timestamp", "timestamp + interval '1 microsecond'" }, { "timestamp", "'infinity'" },
      { "timestamp", "'2026-01-05T10:00:00.000001Z BC'", 1 },
      { "created_at", "created_at - interval '1 microsecond'" },
    }
    for i, alteration in ipairs(alterations) do
      local column, value, n = alteration[1], alteration[2], alteration[3] or (i - 1) % 10 + 1
      it(("%d whose %s becomes %s"):format(n, column, value), function()
        local report = after(function(conn)
          conn.exec(("update audit_log set %s = %s where dealership_id = $1 and id = $2")
            :format(column, value), ours.id,
                    entries[n].id)
        end)
        assert.is_nil(report.chain)
        assert.are.equal(1, report.faults)
        local fault = report.entry
        assert.are.same({ "altered", entries[n].id, entries[n].time, (n - 1) // 4 + 1, { column } },
                        { fault.kind, fault.entry, fault.time, fault.seal, fault.columns })
      end)
    end

    it("whose text moved from one column to the next", function()
      local report = after(function(conn)
        conn.exec(
          "update audit_log set old_value = 'a', new_value = 'bc' where dealership_id = $1 and \z
            id = $2", ours.id,
                  entries[1].id)
      end)
      assert.are.same({ "old_value", "new_value" }, report.entry.columns)
    end)

    it("that is missing, each", function()
      for n, entry in ipairs(entries) do
        local report = after(function(conn)
          conn.exec("delete from audit_log where id = $1", entry.id)
        end)
        assert.is_nil(report.chain)
        assert.are.same({ "missing", entry.id, entry.time, (n - 1) // 4 + 1 },
                        { report.entry.kind, report.entry.entry, report.entry.time,
                          report.entry.seal })
      end
    end)

    it("that was inserted with an earlier time, and sealing does not cover it up", function()
      local id = moonpool.uuid()
      local report = after(function(conn)
        conn.exec([[insert into audit_log (dealership_id, id, user_id, action, entity_type,
          entity_id, timestamp)
                    values ($1, $2, $3, 'create', 'deal', $2, '2026-01-05T10:00:00.000001Z')]],
                      ours.id, id,
                  ours.salesperson.id)
        assert.are.equal(0, conn.value("select sealed from system.seal_audit_log($1, 1000)",
                                       ours.id))
      end)
      assert.is_nil(report.chain)
      assert.are.same({ "inserted", id, "2026-01-05T10:00:00.000001Z", 1 },
                      { report.entry.kind, report.entry.entry, report.entry.time, report.faults })
    end)

    it("that was given another dealership: missing here, inserted there", function()
      local function move(conn)
        conn.exec("update audit_log set dealership_id = $1 where id = $2", theirs.id, entries[2].id)
      end
      local here, there = after(move).entry, after(move, theirs).entry
      assert.are.same({ "missing", entries[2].id, entries[2].time },
                      { here.kind, here.entry, here.time })
      assert.are.same({ "inserted", entries[2].id, entries[2].time },
                      { there.kind, there.entry, there.time })
    end)

    it("that took another one's place", function()
      local report = after(function(conn)
        conn.exec([[update audit_log a set timestamp = b.timestamp from audit_log b
                     where (a.id = $1 and b.id = $2) or (a.id = $2 and b.id = $1)]], entries[6].id,
                       entries[9].id)
      end)
      assert.are.same({ "altered", entries[6].id, 2, { "timestamp" } },
                      { report.entry.kind, report.entry.entry, report.faults,
                        report.entry.columns })
    end)

    it("that is the first by time, of several", function()
      local report = after(function(conn)
        conn.exec("delete from audit_log where id in ($1, $2)", entries[9].id, entries[5].id)
        conn.exec("update audit_log set action = 'x' where id = $1", entries[3].id)
        conn.exec(
          "insert into audit_log select (jsonb_populate_record(a, jsonb_build_object('id', \z
            gen_random_uuid(), " ..
                  "'timestamp', '2026-02-01'))).* from audit_log a where id = $1", entries[4].id)
      end)
      assert.are.equal(4, report.faults)
      assert.are.same({ "inserted", "2026-02-01T00:00:00.000000Z" },
                      { report.entry.kind, report.entry.time })
    end)
  end)

  describe("names a seal", function()
    -- { what happens, the statement, what is said, the seal }
    local faults = {
      { "edited lists", "update audit_seals set entries = entries[2:] || entries[1] where \z
        dealership_id = $1 and seq = 2",
        "seal 2 was altered", 2 },
      { "an edited digest", "update audit_seals set digests[3] = digests[2] where dealership_id \z
        = $1 and seq = 1",
        "seal 1 was altered", 1 },
      { "edited marks", "update audit_seals set marks[1] = marks[2] where dealership_id = $1 and \z
        seq = 3",
        "seal 3 was altered", 3 },
      { "an edited time", "update audit_seals set times[4] = times[4] + interval '1 us' where \z
        dealership_id = $1 and seq = 2",
        "seal 2 was altered", 2 },
      { "an edited first_at", "update audit_seals set first_at = '2000-01-01' where \z
        dealership_id = $1 and seq = 2",
        "seal 2 was altered", 2 },
      { "an edited last_at", "update audit_seals set last_at = 'infinity' where dealership_id = \z
        $1 and seq = 2",
        "seal 2 was altered", 2 },
      { "an edited hash", "update audit_seals set hash = sha256(hash) where dealership_id = $1 \z
        and seq = 2",
        "seal 2 was altered", 2 },
      { "an edited prev_hash", "update audit_seals set prev_hash = hash where dealership_id = $1 \z
        and seq = 3",
        "seal 3 was altered", 3 },
      { "an edited sealed_at", "update audit_seals set sealed_at = '2026-01-01' where \z
        dealership_id = $1 and seq = 2",
        "seal 2 was altered", 2 },
      { "an edited created_at",
        "update audit_seals set created_at = '2026-01-01' where dealership_id = $1 and seq = 2",
        "seal 2 was altered", 2 },
      { "an edited horizon", "update audit_seals set horizon = '2026-01-01' where dealership_id \z
        = $1 and seq = 3",
        "seal 3 was altered", 3 },
      { "a dropped entry", [[update audit_seals set entries = entries[2:], times = times[2:],
        digests = digests[2:],
                                    marks = marks[2:], entry_count = 3, first_at = times[2]
                              where dealership_id = $1 and seq = 2]], "seal 2 was altered", 2 },
      { "one missing in the middle", "delete from audit_seals where dealership_id = $1 and seq = 2",
        "seal 2 is missing", 2 },
      { "the first one missing", "delete from audit_seals where dealership_id = $1 and seq = 1",
        "seal 1 is missing", 1 },
      { "a cut tail", "delete from audit_seals where dealership_id = $1 and seq >= 2",
        "seals 2 to 3 are missing: they were cut off the end", 2 },
      { "all cut off", "delete from audit_seals where dealership_id = $1",
        "seals 1 to 3 are missing", 1 },
      { "one added", [[insert into audit_seals select (jsonb_populate_record(s, '{"seq": 0}')).*
        from audit_seals s
                        where dealership_id = $1 and seq = 1]], "seal 0 was added", 0 },
    }
    for _, case in ipairs(faults) do
      it("with " .. case[1], function()
        local report = after(function(conn)
          conn.exec "alter table audit_seals drop constraint audit_seals_seq_check"
          conn.exec(case[2], ours.id)
        end)
        assert.truthy(report.chain and report.chain.text:find(case[3], 1, true),
                      report.chain and report.chain.text)
        assert.are.same({ "seal", case[4] }, { report.chain.kind, report.chain.seal })
      end)
    end

    it("that came from another dealership", function()
      local report = after(function(conn)
        conn.exec("delete from audit_seals where dealership_id = $1 and seq = 1", ours.id)
        conn.exec("update audit_seals set dealership_id = $1 where dealership_id = $2 and seq = 1",
                  ours.id, theirs.id)
      end)
      assert.truthy(report.chain.text:find("seal 1 was altered", 1, true), report.chain.text)
    end)

    it("in another one's place", function()
      local report = after(function(conn)
        for _, step in ipairs { { 2, 9 }, { 3, 2 }, { 9, 3 } } do
          conn.exec("update audit_seals set seq = $3 where dealership_id = $1 and seq = $2",
                    ours.id, step[1], step[2])
        end
      end)
      assert.truthy(report.chain.text:find("seal 2 was altered", 1, true), report.chain.text)
    end)
  end)

  describe("names the head", function()
    local faults = {
      { "a head moved back", "update system.audit_heads set seq = 2 where dealership_id = $1",
        "the head was altered, or seals were added: it ends at seal 2, the seals at 3" },
      { "another hash", "update system.audit_heads set hash = sha256(hash) \z
        where dealership_id = $1",
        "the seals up to 3 were rewritten, or the head was" },
      { "an earlier horizon", "update system.audit_heads set horizon = '-infinity' where \z
        dealership_id = $1",
        "its horizon is earlier than the seals'" },
      { "no head", "delete from system.audit_heads where dealership_id = $1",
        "the head is missing: there are 3 seals" },
    }
    for _, case in ipairs(faults) do
      it("with " .. case[1], function()
        local report = after(function(conn) conn.exec(case[2], ours.id) end)
        assert.are.equal("head", report.chain and report.chain.kind)
        assert.truthy(report.chain.text:find(case[3], 1, true), report.chain.text)
      end)
    end

    it("of which seals are said to be missing when it was moved on", function()
      local report = after(function(conn)
        conn.exec("update system.audit_heads set seq = 9 where dealership_id = $1", ours.id)
      end)
      assert.truthy(report.chain.text:find("seals 4 to 9 are missing", 1, true), report.chain.text)
    end)
  end)

  describe("rewritten from a seal on, with right hashes,", function()
    -- What an owner of the tables can do: alter an entry, and have the chain made anew from its
    -- seal on.
    local function rewrite(conn, k)
      conn.exec("update audit_log set new_value = 'forged' where id = $1", entries[4 * k - 3].id)
      local before = conn.query(
        "select hash from audit_seals where dealership_id = $1 and seq = $2", ours.id, k - 1)[1]
      conn.exec("delete from audit_seals where dealership_id = $1 and seq >= $2", ours.id, k)
      conn.exec(
        "update system.audit_heads set seq = $2, hash = $3, horizon = '-infinity' where \z
          dealership_id = $1", ours.id,
                k - 1, before and before.hash or ("\0"):rep(32))
      while conn.value("select sealed from system.seal_audit_log($1, 4)", ours.id) > 0 do end
    end

    for k = 1, 3 do
      it(k .. ": the head, kept apart, does not match", function()
        local report = after(function(conn)
          local head = conn.query("select * from system.audit_heads where dealership_id = $1",
                                  ours.id)[1]
          rewrite(conn, k)
          conn.exec(
            "update system.audit_heads set seq = $2, hash = $3, horizon = now() where \z
              dealership_id = $1", ours.id,
                    head.seq, head.hash)
        end)
        assert.are.same({ "head", 3 },
                        { report.chain and report.chain.kind, report.chain and report.chain.seal })
      end)

      it(k .. ", and the head too: only a head kept elsewhere shows it", function()
        local kept = head_of(ours)
        assert_clean(after(function(conn) rewrite(conn, k) end))
        local report = after(function(conn) rewrite(conn, k) end, ours, kept)
        assert.are.same({ "seal", 3 }, { report.chain.kind, report.chain.seal })
        assert.truthy(report.chain.text:find("the head that was kept elsewhere", 1, true))
      end)
    end

    it("alone: the seal after it was made upon another", function()
      local report = after(function(conn)
        local kept = conn.query("select * from audit_seals where dealership_id = $1 and seq = 3",
                                ours.id)[1]
        local head = conn.query("select * from system.audit_heads where dealership_id = $1",
                                ours.id)[1]
        rewrite(conn, 2)
        conn.exec(
          "update audit_seals set prev_hash = $2, hash = $3, horizon = $4, sealed_at = $5, \z
            created_at = $5 " ..
                  "where dealership_id = $1 and seq = 3", ours.id, kept.prev_hash, kept.hash,
                  kept.horizon, kept.sealed_at)
        conn.exec(
          "update system.audit_heads set hash = $2, horizon = now() where dealership_id = $1",
          ours.id, head.hash)
      end)
      assert.are.same({ "seal", 2 }, { report.chain.kind, report.chain.seal })
      assert.truthy(report.chain.text:find("seal 2 was rewritten: seal 3 was made upon another", 1,
                                           true))
    end)

    it("or wiped out: only a head kept elsewhere shows it", function()
      local function wipe(conn)
        for _, name in ipairs { "audit_log", "audit_seals", "system.audit_heads" } do
          conn.exec(("delete from %s where dealership_id = $1"):format(name), ours.id)
        end
      end
      assert_clean(after(wipe))
      local report = after(wipe, ours, head_of(ours))
      assert.truthy(report.chain.text:find("seals 1 to 3 are missing", 1, true))
    end)
  end)

  it("names whatever is done to it, at random", function()
    local seed = math.tointeger(tonumber(os.getenv "MP_SEED")) or os.time()
    local times = os.getenv "MP_LONG" and 1000 or 50
    math.randomseed(seed)
    local function name(text, fields)
      return ("MP_SEED=%d: %s: %s"):format(seed, text, fields and fields.text or "clean")
    end
    local texts = { "action", "entity_type", "field_name", "old_value", "new_value" }
    local seal_columns = {
      sealed_at = "sealed_at + interval '%d us'",
      horizon = "timestamptz '2000-01-01' + interval '%d us'",
      last_at = "last_at + interval '%d us'",
      hash = "sha256(hash || '%d')", prev_hash = "sha256(prev_hash || '%d')",
      digests = "entries::text[]::bytea[]",
      times = "array_prepend(times[1] - interval '%d us', times[2:])",
      entries = "entries[2:] || gen_random_uuid()",
    }
    local seal_names = {}
    for column in pairs(seal_columns) do seal_names[#seal_names + 1] = column end
    table.sort(seal_names)

    -- Each does something and tells what must be named: kind, and the entry or the seal.
    local deeds = {
      function(conn, n)
        local column = texts[math.random(#texts)]
        conn.exec(("update audit_log set %s = coalesce(%s, '') || $2 where id = $1"):format(column,
          column), entries[n].id,
                  string.char(math.random(97, 122)))
        return "altered", column
      end,
      function(conn, n)
        local column = math.random(2) == 1 and "timestamp" or "created_at"
        conn.exec(("update audit_log set %s = %s + $2 * interval '1 us' where id = $1")
          :format(column, column), entries[n].id,
                  math.random(1000000))
        return "altered", column
      end,
      function(conn, n)
        conn.exec(
          "update audit_log set metadata = jsonb_set(metadata, '{z}', to_jsonb($2::int)) where \z
            id = $1", entries[n].id,
                  math.random(1000000))
        return "altered", "metadata"
      end,
      function(conn, n)
        local column = ({ "user_id", "entity_id", "deal_id", "scenario_id" })[math.random(4)]
        conn.exec(("update audit_log set %s = gen_random_uuid() where id = $1"):format(column),
                  entries[n].id)
        return "altered", column
      end,
      function(conn, n)
        conn.exec("delete from audit_log where id = $1", entries[n].id)
        return "missing"
      end,
      function(conn, n)
        conn.exec("update audit_log set dealership_id = $2 where id = $1", entries[n].id, theirs.id)
        return "missing"
      end,
      function(conn, n)
        local column, seq = seal_names[math.random(#seal_names)], (n - 1) // 4 + 1
        conn.exec(("update audit_seals set %s = %s where dealership_id = $1 and seq = $2")
          :format(column,
          (seal_columns[column]:gsub("%%d", tostring(math.random(1000000))))), ours.id, seq)
        return "seal", seq
      end,
      function(conn, n)
        local seq = (n - 1) // 4 + 1
        conn.exec("delete from audit_seals where dealership_id = $1 and seq >= $2 and seq <= $3",
                  ours.id, seq,
                  math.random(seq, 3))
        return "seal", seq
      end,
    }
    for _ = 1, times do
      local n, which, kind, what = math.random(#entries), math.random(#deeds), nil, nil
      local report = after(function(conn) kind, what = deeds[which](conn, n) end)
      local told = ("%d, entry %d, %s %s"):format(which, n, kind, what or "")
      if kind == "seal" then
        assert.are.same({ kind, what },
                        { report.chain and report.chain.kind, report.chain and report.chain.seal },
                        name(told, report.chain))
      else
        assert.is_nil(report.chain, name(told, report.chain))
        assert.are.same({ kind, entries[n].id, entries[n].time,
                          kind == "altered" and { what } or nil },
          report.entry and { report.entry.kind, report.entry.entry, report.entry.time,
                             report.entry.columns },
          name(told, report.entry))
      end
    end
    print(("  %d random tamperings, MP_SEED=%d"):format(times, seed))
  end)
end)
