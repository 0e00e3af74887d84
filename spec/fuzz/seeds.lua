-- seeds.lua FOLDER: what libFuzzer starts from, a folder NAME_seeds for each target, and an empty
-- NAME_found beside it for what it finds. Requests are those of spec/support/data/http_corpus.lua,
-- migrations those of the example.
local folder = assert(arg[1], "seeds.lua FOLDER")
package.path = arg[0]:gsub("[^/]*$", "") .. "../../?.lua;" .. package.path
local corpus = require "spec.support.data.http_corpus"

local function write(name, texts)
  assert(os.execute(("mkdir -p '%s/%s_seeds' '%s/%s_found'"):format(folder, name, folder, name)))
  for n, text in ipairs(texts) do
    local file = assert(io.open(("%s/%s_seeds/%03d"):format(folder, name, n), "wb"))
    file:write(text)
    file:close()
  end
end

local requests = {}
for _, cases in ipairs { corpus.refused, corpus.accepted } do
  for _, case in ipairs(cases) do
    if #case.bytes < 1000 then
      requests[#requests + 1] = case.bytes .. "GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
    end
  end
end
write("http", requests)

write("json", {
  '{"a":[1,-2.5e10,"x\\u00e9\\ud83d\\ude00",null,true,false,{}],"b":"\\n"}',
  "[]", "12345678901234567890.123", '"\\u0000"', "\239\187\191{}",
})

write("names", {
  "select * from t where a = $a and b = $b::int and c = '$no' and d = $a",
  'select "$no", $$ $no $$, $x$ $no $x$ -- $no',
  "select E'\\'$no', /* $no /* $no */ */ $yes", "select $1, $2",
  "insert into t (a) values ($a) returning *",
  "select U&'d\\0061t\\+000061', x.$y, $tag$a$tag$",
})

write("schema", {
  '{"name":"a b","email":"a@b.example","count":3,"ratio":null,"price":"12.50","flag":true,"kind":\z
    "a","day":"2024-02-29"}',
  '{"node":{"id":"0190aaaa-0000-7000-8000-000000000001","tags":["x"],"at":"2024-02-29T12:00:00.12\z
    3Z"},"either":1}',
  '{"nodes":[{"id":"0190aaaa-0000-7000-8000-000000000001"}],"byName":{"x":1},"any":[{}]}',
})

local migrations = {}
for path in io.popen(("ls '%s../../migrations/'*.sql"):format((arg[0]:gsub("[^/]*$", ""))))
  :lines() do
  local text = assert(io.open(path)):read "a"
  if #text < 2000 then migrations[#migrations + 1] = text end
end
for _, text in ipairs {
  "create table a (b int);\n\n-- migrate:down\ndrop table a;\n",
  "create function f() returns int language sql as $$ select 1; -- migrate:down\n$$;\n-- \z
    migrate:down\ndrop function f();\n",
  "create index concurrently i on a (b);",
  "select 'x''y', E'\\'', \"a\"\"b\", $q$ ; $q$; /* ; /* */ ; */ select 2;",
} do migrations[#migrations + 1] = text end
write("migration", migrations)
