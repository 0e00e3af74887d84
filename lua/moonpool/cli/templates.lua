-- moonpool.cli.templates: the files that `moonpool new` writes. $name, $words and $summary are
-- filled in.
local templates = {}

-- A new project, by path.
templates.project = {
  ["moonpool.conf"] = [[
# The settings of this project. `moonpool help settings` lists them all, `moonpool config` shows
# what is in force. What the environment has wins. On a server of your own, give DATABASE_URL and
# MOONPOOL_OWNER_URL there; without them this project has a private database on this machine.
MOONPOOL_ENV = development
]],

  [".gitignore"] = [[
/build/
*.swp
]],

  ["README.md"] = [[
# $words

```sh
moonpool migrate up                        # brings the database to the state of migrations/
moonpool call add_note '{"text": "Hello"}' # runs scripts/add_note.lua, one transaction
moonpool spec                              # runs spec/ on a throw-away database
moonpool serve                             # the same operations over HTTP
```

`moonpool new op NAME` writes an operation with its spec, `moonpool new migration NAME` a migration.
`moonpool ops` lists the operations, `moonpool call NAME --help` shows the input of one, and
`moonpool help` lists the texts about all the rest.
]],

  ["migrations/0001_notes.sql"] = [[
-- notes: what people want to remember.

create table notes (
  id         uuid primary key,
  text       text not null check (text <> ''),
  created_at timestamptz not null default now()
);

grant select, insert, update, delete on notes to moonpool_app;

-- migrate:down

drop table notes;
]],

  ["scripts/add_note.lua"] = [[
local moonpool = require "moonpool"
local is       = require "moonpool.is"

return moonpool.operation {
  summary = "Add a note",
  input   = is.object { text = is.string:min(1):max(500) },
  output  = is.object { note = is.row },

  run = function(tx, input)
    local note = tx:insert("notes", { id = tx:uuid(), text = input.text })
    return { note = note }
  end,
}
]],

  ["spec/add_note_spec.lua"] = [[
local moonpool = require "moonpool"
local db       = require "moonpool.db"

describe("add_note", function()
  it("keeps the text", function()
    local result = moonpool.call("add_note", { text = "Call back" })
    assert.are.equal("Call back", result.note.text)
    assert.are.equal(1, db.value("select count(*) from notes where id = $1", result.note.id))
  end)

  it("refuses an empty text", function()
    local ok, e = pcall(moonpool.call, "add_note", { text = "" })
    assert.is_false(ok)
    assert.are.equal("VALIDATION_ERROR", e.code)
  end)
end)
]],
}

-- A new operation, and its spec.
templates.operation = [[
local moonpool = require "moonpool"
local is       = require "moonpool.is"

-- `moonpool help operations` explains every field, `moonpool help statements` what tx can do.
return moonpool.operation {
  summary = "$summary",
  input   = is.object { text = is.string:min(1):max(200) },
  output  = is.object { answer = is.row },

  run = function(tx, input)
    local answer = tx:one("select $text::text as text, now() as at", input)
    return { answer = answer }
  end,
}
]]

templates.spec = [[
local moonpool = require "moonpool"

describe("$name", function()
  it("gives back the text", function()
    local result = moonpool.call("$name", { text = "Hello" })
    assert.are.equal("Hello", result.answer.text)
  end)

  it("refuses an empty text", function()
    local ok, e = pcall(moonpool.call, "$name", { text = "" })
    assert.is_false(ok)
    assert.are.equal("VALIDATION_ERROR", e.code)
  end)
end)
]]

return templates
