-- moonpool.migrate.markers: what a migration applies, what undoes it, and what only looks like the
-- marker between them.
local markers = require "moonpool.migrate.markers"
local scan    = require "moonpool.migrate.scan"
local sql     = require "moonpool.sql"

local function parts(text) return markers.parts(text, "migrations/0001_x.sql") end

local function refusal(text)
  local ok, failure = pcall(parts, text)
  assert.is_false(ok, "taken: " .. text)
  return tostring(failure)
end

local template = "create table if not exists customers(id int);\n%s\ndrop table customers;\n"

describe("a migration's marker", function()
  it("divides the file, whatever blanks and line ends it has", function()
    for _, line in ipairs { "-- migrate:down", "--migrate:down", "--\tmigrate:down \t" } do
      for _, ending in ipairs { "\n", "\r\n" } do
        local up, down, from = parts((template:format(line):gsub("\n", ending)))
        assert.are.equal("create table if not exists customers(id int);" .. ending, up)
        assert.are.equal("drop table customers;" .. ending, down)
        assert.are.equal(3, from)
      end
    end
    local up, down = parts "select 1;\n-- migrate:down"
    assert.are.same({ "select 1;\n", "" }, { up, down })
    assert.is_nil(select(2, parts "select 1;\n"))
  end)

  it("may have -- migrate:up in front", function()
    local up, down,
      from = parts "-- Customers.\n-- migrate:up\nselect 1;\n-- migrate:down\nselect 2;"
    assert.are.same({ "-- Customers.\n-- migrate:up\nselect 1;\n", "select 2;", 5 },
                    { up, down, from })
  end)

  it("is refused with its line when it is not exactly that", function()
    for _, line in ipairs {
      "-- Migrate:Down", "-- migrate: down", " -- migrate:down", "\t-- migrate:down",
      "-- migrate:down;", "-- migrate:down transaction:false", "-- MIGRATE:DOWN",
      "-- migrate :down",
      "-- migrate : down", "-- migrate:dwon", "-- migrate:undo", "-- migrate:rollback",
      "-- migrate-down", "-- migrate_down", "-- migrate=down", "-- migrate down", "-- migrat:down",
      "--- migrate:down", "---- migrate:down ----", "-- -- migrate:down", "-- migrate:down --",
      "/* migrate:down */", "/* -- migrate:down */", "/*\nmigrate:down\n*/",
      "/*\n-- migrate:down\n*/",
      "# migrate:down", "// migrate:down", "migrate:down", "- migrate:down", "; -- migrate:down",
      "select 1; -- migrate:down", "-- migration:down", "-- migrate:up", "-- Migrate:Up",
      "-- +goose Down", "-- +goose down", "--+goose Down", "-- +goose Up",
      "-- +goose NO TRANSACTION",
      "-- +goose StatementBegin", "-- goose: down", "-- +migrate Down",
      "-- +migrate Down notransaction",
      "-- rambler down", "-- Down Migration", "-- Up Migration", "-- !Downs", "# --- !Downs",
      "-- Down",
      "-- DOWN", "-- down:", "-- ===== DOWN =====", "-- @UNDO", "-- //@UNDO", "-- rollback",
      "-- Undo",
      "-- revert", "---- create above / drop below ----", "--liquibase formatted sql",
      "--changeset bob:1", "-- dbmate:down", "-- flyway:undo",
      "\u{FEFF}-- migrate:down", "-- migrate：down", "-- migrate∶down", "-- mіgrate:down",
      "-- мigrаtе:dоwn", "-- migrate:dоwn", "—— migrate:down", "– migrate:down", "−− migrate:down",
      "--\u{A0}migrate:down", "-- migrate:\u{200B}down", "-- migrate:down\u{A0}", "-- ｍigrate:down",
      "-- mi\u{AD}grate:down", "-- gone\u{2028}-- migrate:down", "-- gone -- migrate:down",
      "-- migrate:d\xF6wn",
      "-- dbmate: migrate:down", "-- start of down migration", "-- go-migrate down",
      "-- end up / begin down", "-- node-pg-migrate down", "-- Down migration starts here:",
      "-- section: down",
      "-- MIGRATE\u{3A}\u{A0}DOWN",
      "-- +duck Down", "--+duck Down", "-- +rel up", "-- name: down", "-- name: rollback!",
      "-- name = down", "-- :name down :!", "-- @name down", "-- name: migrate_down",
      "-- type: down", "-- direction=down", "-- stage: rollback", "-- atlas:down", "-- [step down]",
      "--rollback drop table customers;", "-- rollback drop table x", "--rollback not required",
      "-- --rollback drop table x;", "/* liquibase rollback */", "--preconditions onFail:HALT",
      "-- Revert app:customers from pg", "-- Deploy customers to pg", "-- Verify customers on pg",
      "-- sqitch revert", "-- U1__drop", "-- 2. Down", "-- 2) down", "-- downgrade",
      "-- +downgrade",
      "-- alembic downgrade", "-- Upgrade", "-- Downgrade script", "-- backward", "-- Reverse",
      "-- Roll back", "-- roll-back:", "-- ROLLBACK STATEMENTS", "-- mybatis: //@UNDO",
      "-- ====  shmig  DOWN", "-- knex:down", "-- nomad down", "-- teardown",
    } do
      local text = template:format(line)
      local said = refusal(text)
      local at = line:find "^/%*\n" and 3 or 2
      assert.truthy(said:find("^migrations/0001_x%.sql:" .. at .. ": "), line .. ": " .. said)
      refusal((text:gsub("\n", "\r\n")))
    end
    local said = refusal(template:format "-- Migrate:Down")
    assert.truthy(said:find('"-- Migrate:Down" looks like a marker', 1, true), said)
    assert.truthy(said:find("exactly\n-- migrate:down\n", 1, true), said)
  end)

  it("is no marker within quotes", function()
    for _, text in ipairs {
      "select '\n-- migrate:down\n';", "do $$\n-- migrate:down\n-- Migrate:Down\n$$;",
      "select E'\\'\n-- migrate:down\n';", "select $a$ $$\n-- +goose Down\n $b$ $a$;",
      'create table "\n-- migrate:down\n" ();', "select ''''\n'-- +goose Down';",
      "select E'a'\n 'b\\'\n-- migrate:down\n';", "select U&'\\0041\n-- migrate:down\n';",
      "select 1$$\n-- migrate:down\n$$;",
    } do
      assert.are.equal(text, parts(text))
    end
  end)

  it("is seen behind what only looks like a quote", function()
    for _, text in ipairs {
      "select '\\';", "select a$$b from t;", "select $1, $2$;", "select 1 -- it's\n;",
      "select /* it's /* \" */ $$ */ 1",
      "select 'E''';", "select name'x' from t;", "select e'\\\\';", "select 1 - 2 / 3 * 4;",
      'select "it\'s";',
    } do
      local up, down = parts(text .. "\n-- migrate:down\nselect 2;\n")
      assert.are.same({ text .. "\n", "select 2;\n" }, { up, down })
    end
  end)

  it("is not every comment that speaks of migrations", function()
    for _, line in ipairs {
      "-- Migrates the old rows.", "-- migrate the down payments", "-- Down payments, in cents.",
      "-- goose feathers", "-- Up to 30 characters.", "-- Roll back by hand: see the manual.",
      "-- Undo is not possible here.", "-- Migration 12: customers",
      "-- migration (down is elsewhere)",
      "-- This migration adds a table; its down part drops it.", "-- +1 for the day of delivery",
      "/* The migration's up part\n   must be quick. */", "-- migrate users to the new table",
      "-- update", "-- users", "-- owner", "-- Größe", "-- ü",
      "-- the start of the day", "-- up and down payments", "-- This is the end.",
      "-- step: down the line", "-- Roll back by hand, or call support.", "-- rollback is manual",
      "-- Verify totals on Mondays", "-- Revert to defaults", "-- Forward references come later.",
      "-- note: upgrade first the client", "-- status: up to date",
      "-- To undo this, call support.",
      "-- Upgrade of the plan", "-- rolls", "-- name: customers", "-- slow down", "-- 2. Customers",
      "select migrations.up,\n  migrations.down\nfrom migrations;", "-- migrations", "-- 1. goose",
    } do
      assert.are.equal(line .. "\n", parts(line .. "\n"))
    end
  end)

  it("stands once, behind what is applied", function()
    local second = refusal "select 1;\n-- migrate:down\nselect 2;\n-- migrate:down\nselect 3;\n"
    assert.truthy(second:find("0001_x.sql:4: a second `-- migrate:down`; the first is line 2", 1,
                              true))
    local reversed = refusal "-- migrate:down\ndrop table x;\n-- migrate:up\ncreate table x ();\n"
    assert.truthy(reversed:find("0001_x.sql:3: `-- migrate:up` stands behind", 1, true), reversed)
    local empty = refusal "-- Nothing yet.\n;\n-- migrate:down\ndrop table x;\n"
    assert.truthy(empty:find("0001_x.sql:3: nothing stands in front", 1, true), empty)
    refusal "select 1;\n-- migrate:up\nselect 2;\n"
    refusal "-- migrate:up\n-- migrate:up\nselect 2;\n"
    parts "\n-- migrate:down\n"
  end)
end)

describe("what only psql reads", function()
  it("is refused with its line and what to do", function()
    for text, said in pairs {
      ["\\restrict abc\nselect 1;\n\\unrestrict abc\n"] =
        "0001_x.sql:1: \\restrict is a command of psql",
      ["select 1;\n\\connect shop\n"] =
        "0001_x.sql:2: \\connect is a command of psql, not SQL: take the line out",
      ["select 1 \\gexec\n"] = "0001_x.sql:1: \\gexec is",
      ["select 1;\nCOPY public.t (a, \"b\") FROM stdin;\n1\tit's\n\\.\n"] =
        "0001_x.sql:2: COPY FROM STDIN has no input here: use INSERT (pg_dump --inserts",
      ["copy t from stdin"] = "0001_x.sql:1: COPY FROM STDIN",
      ["copy /* all */ t\nfrom\n  stdin with (format csv);\n"] = "0001_x.sql:1: COPY FROM STDIN",
      ["\\.\n"] = "0001_x.sql:1: \\. ends data of COPY",
    } do
      assert.truthy(refusal(text):find(said, 1, true), refusal(text))
    end
    local server_side = "copy t from '/tmp/stdin';\nselect E'\\\\restrict';\n"
    assert.are.equal(server_side, parts(server_side))
  end)
end)

describe("the scan of quotes and comments", function()
  it("agrees with PostgreSQL's scanner", function()
    local bits = { "'", "''", '"', "$$", "$a$", "$a", "$1", "--", "/*", "*/", "\n", "\r\n", " ",
                   "\\", "E'", "e",
                   "a", "1", "U&'", "ü", "-", "/", "*", "(", ",", "+", "x'", "b$" }
    local state, compared = 42, 0
    local function random(n)
      state = (state * 1103515245 + 12345) % 2147483648
      return state // 65536 % n + 1
    end
    for _ = 1, 20000 do
      local list = {}
      for i = 1, random(12) do list[i] = bits[random(#bits)] end
      local text, kept, at = table.concat(list), {}, 1
      for kind, from, to in scan.pieces(text) do
        if kind == "comment" then
          kept[#kept + 1] = text:sub(at, from - 1) .. (" "):rep(to - from + 1)
          at = to + 1
        end
      end
      -- What is no comment is all that the checksum is of. A text that the scanner refuses has the
      -- checksum of its bytes, to which a blank at the end belongs; a string that goes on behind a
      -- comment is one token with it.
      local without = table.concat(kept) .. text:sub(at)
      if not text:find "'%s*%-%-" and sql.checksum(text) == sql.checksum(text .. "\n") then
        compared = compared + (without ~= text and 1 or 0)
        assert.are.equal(sql.checksum(text), sql.checksum(without), text)
      end
    end
    assert.is_true(compared > 1000, compared)
  end)
end)
