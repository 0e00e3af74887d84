-- Requests as data: `refused` with the status that is right, `accepted` with how the echo server
-- understands them ("METHOD path query version headers body-bytes"). A case is bytes in full, so
-- that nothing in front can tidy them up.
local corpus = { refused = {}, accepted = {} }

local function refuse(status, name, bytes)
  corpus.refused[#corpus.refused + 1] = { name = name, bytes = bytes, status = status }
end

local function accept(name, bytes, told, options)
  local case = { name = name, bytes = bytes, told = told }
  for key, value in pairs(options or {}) do case[key] = value end
  corpus.accepted[#corpus.accepted + 1] = case
end

-- A name for bytes that cannot be printed.
local function shown(bytes)
  return (bytes:gsub("[%c\128-\255]", function(c) return ("\\x%02x"):format(c:byte()) end))
end

-- A whole request around some headers or a request line.
local function get(...)
  return "GET / HTTP/1.1\r\nHost: a\r\n" .. table.concat({ ... }, "\r\n") .. "\r\n\r\n"
end
local function post(headers, body)
  return "POST / HTTP/1.1\r\nHost: a\r\n" .. headers .. "\r\n\r\n" .. body
end
local function line(text) return text .. "\r\nHost: a\r\n\r\n" end
local function chunked(body) return post("Transfer-Encoding: chunked", body) end

-- ---- where the message ends ----

local both = {
  "Content-Length: 5\r\nTransfer-Encoding: chunked",
  "Transfer-Encoding: chunked\r\nContent-Length: 5",
  "Content-Length: 0\r\nTransfer-Encoding: chunked",
  "content-length: 5\r\ntransfer-encoding: chunked",
  "Content-Length: 5\r\nTransfer-Encoding: Chunked",
  "Content-Length: 5\r\nX: y\r\nTransfer-Encoding:chunked",
  "Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 5",
  "Content-Length:5\r\nTransfer-Encoding:\tchunked",
}
for i, headers in ipairs(both) do
  refuse(400, "Content-Length with Transfer-Encoding " .. i, post(headers, "0\r\n\r\n"))
end
for _, headers in ipairs { "Content-Length: 5\r\nTransfer-Encoding: identity",
                           "Transfer-Encoding: gzip\r\nContent-Length: 5",
                           "Content-Length: 5\r\nTransfer-Encoding: xchunked",
                           "Content-Length: 5\r\nTransfer-Encoding:",
                           "Transfer-Encoding: chunked, chunked\r\nContent-Length: 5" } do
  refuse(400, "Content-Length with another coding: " .. shown(headers), post(headers, "12345"))
end

for _, pair in ipairs { { "5", "5" }, { "5", "6" }, { "0", "5" }, { "5", "0" }, { "", "5" },
                        { "5", "" }, { "05", "5" } } do
  refuse(400, ("Content-Length twice: %s and %s"):format(pair[1], pair[2]),
         post(("Content-Length: %s\r\nContent-Length: %s"):format(pair[1], pair[2]), "12345"))
end
for _, value in ipairs { "5, 5", "5,5", "5,", ",5", "+5", "-5", "-0", "+0", "0x5", "5.0", "5e0",
                         "5 5", "5;5", "'5'", '"5"', "five",
                         "", " ", "\t", "5\t5", "5\0", "\0005", "5\11", "\0115", "5\1275", "٥", "５",
                         "5\160", "0b1", "1_0", "5x", "x5",
                         "18446744073709551616", "18446744073709551621", "99999999999999999999999",
                         "0000000000000000000000005",
                         "9223372036854775808" } do
  refuse(400, "Content-Length: " .. shown(value), post("Content-Length: " .. value, "12345"))
end
for _, value in ipairs { "1048577", "999999999999999999", "4294967301", "2147483653" } do
  refuse(413, "Content-Length: " .. value, post("Content-Length: " .. value, "12345"))
end
for _, name in ipairs { "Content-Length ", "Content-Length\t", "Content Length", "Content-Length\0",
                        "Content-Length\11", "Content\r-Length" } do
  refuse(400, "header name " .. shown(name), post(name .. ": 5", "12345"))
end

for _, value in ipairs { "gzip", "deflate", "compress", "identity", "gzip, identity", "chunkedx",
                         "xchunked", "x chunked", "chunk", "chunked chunked", "chunked;q=1",
                         "chunked;foo=bar", '"chunked"',
                         "", " ", "cow", "chunked\160", "\160chunked", "chun ked" } do
  refuse(501, "Transfer-Encoding: " .. shown(value),
         post("Transfer-Encoding: " .. value, "0\r\n\r\n"))
end
for _, value in ipairs { "chunked, gzip", "chunked, identity", "chunked,", "chunked, chunked" } do
  refuse(400, "Transfer-Encoding: " .. value, post("Transfer-Encoding: " .. value, "0\r\n\r\n"))
end
for _, value in ipairs { "gzip, chunked", "identity, chunked", ", chunked", "x, chunked" } do
  refuse(501, "Transfer-Encoding: " .. value, post("Transfer-Encoding: " .. value, "0\r\n\r\n"))
end
for _, value in ipairs { "chunked\11", "\11chunked", "chunked\0", "\0chunked", "chunked\12",
                         "chunked\r", "chunked\n", "\rchunked",
                         "\nchunked", "chunked\127", "\bchunked", "\27chunked" } do
  refuse(400, "Transfer-Encoding: " .. shown(value),
         post("Transfer-Encoding: " .. value, "0\r\n\r\n"))
end
for _, headers in ipairs { "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                           "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
                           "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
                           "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
                           "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
                           "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
                           "Transfer-Encoding: chunked\r\nTransfer-Encoding:" } do
  refuse(400, "Transfer-Encoding twice: " .. shown(headers), post(headers, "0\r\n\r\n"))
end
for _, name in ipairs { "Transfer-Encoding ", "Transfer-Encoding\t", " Transfer-Encoding",
                        "\tTransfer-Encoding", "Transfer Encoding",
                        "Transfer-Encoding\0", "Transfer\r-Encoding", "Transfer-\nEncoding",
                        "Transfer-Encoding\12", "(Transfer-Encoding)",
                        "Transfer-Encoding\160", "\"Transfer-Encoding\"" } do
  refuse(400, "header name " .. shown(name), post(name .. ": chunked", "0\r\n\r\n"))
end
refuse(400, "chunked in HTTP/1.0",
       "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
refuse(400, "chunked and keep-alive in HTTP/1.0",
       "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")

-- ---- chunks ----

for _, size in ipairs { "g", "x5", "0x5", "-5", "+5", " 5", "5 ", "\t5", "5\t", "", ";", ";a", "5.",
                        "5,5", "5:", "5\0", "\0005", "5\11",
                        "٥", "5h", "5_0", "\"5\"", "5 ;a", "5\t;a", "5\127", "0 ", "0\0" } do
  refuse(400, "chunk size " .. shown(size), chunked(size .. "\r\nhello\r\n0\r\n\r\n"))
end
for _, size in ipairs { "100001", "ffffffff", "FFFFFFFF", "7fffffff", "80000000" } do
  refuse(413, "chunk size " .. size, chunked(size .. "\r\nhello\r\n0\r\n\r\n"))
end
for _, size in ipairs { "000000005", "100000000", "ffffffffffffffff", "10000000000000005",
                        "fffffffffffffffff" } do
  refuse(413, "chunk size " .. size, chunked(size .. "\r\nhello\r\n0\r\n\r\n"))
end
for name, body in pairs {
  ["size ends in bare LF"] = "5\nhello\r\n0\r\n\r\n",
  ["size ends in bare CR"] = "5\rhello\r\n0\r\n\r\n",
  ["size ends in CR CR LF"] = "5\r\r\nhello\r\n0\r\n\r\n",
  ["data ends in bare LF"] = "5\r\nhello\n0\r\n\r\n",
  ["data ends in bare CR"] = "5\r\nhello\r0\r\n\r\n",
  ["data ends in two letters"] = "5\r\nhelloxx0\r\n\r\n",
  ["data is longer than the size"] = "5\r\nhello!\r\n0\r\n\r\n",
  ["data is shorter than the size"] = "6\r\nhello\r\n0\r\n\r\n",
  ["no line end behind the data"] = "5\r\nhello0\r\n\r\n",
  ["an empty line between chunks"] = "5\r\nhello\r\n\r\n0\r\n\r\n",
  ["extension ends in bare LF"] = "5;a=b\nhello\r\n0\r\n\r\n",
  ["extension with bare CR"] = "5;a\rb\r\nhello\r\n0\r\n\r\n",
  ["extension with bare LF inside"] = "5;a\n\r\nhello\r\n0\r\n\r\n",
  ["extension with NUL"] = "5;a\0\r\nhello\r\n0\r\n\r\n",
  ["extension with DEL"] = "5;a\127\r\nhello\r\n0\r\n\r\n",
  ["extension of 300 bytes"] = "5;" .. ("a"):rep(300) .. "\r\nhello\r\n0\r\n\r\n",
  ["extensions without end"] = ("1;" .. ("a"):rep(250) .. "\r\nx\r\n"):rep(70) .. "0\r\n\r\n",
  ["last chunk ends in bare LF"] = "0\n\r\n",
  ["last chunk, then bare LF"] = "0\r\n\n",
  ["last chunk, then bare CR"] = "0\r\n\rx",
  ["trailer ends in bare LF"] = "0\r\nX: y\n\r\n",
  ["trailer with bare CR"] = "0\r\nX: y\rz\r\n\r\n",
  ["trailer starts with a blank"] = "0\r\n X: y\r\n\r\n",
  ["folded trailer"] = "0\r\nX: y\r\n z\r\n\r\n",
  ["trailer without colon"] = "0\r\nXy\r\n\r\n",
  ["trailer without name"] = "0\r\n: y\r\n\r\n",
  ["trailer with a blank before the colon"] = "0\r\nX : y\r\n\r\n",
  ["trailer with NUL"] = "0\r\nX: \0\r\n\r\n",
} do
  refuse(400, "chunked: " .. name, chunked(body))
end
refuse(431, "chunked: trailers without end", chunked("0\r\n" .. ("X: y\r\n"):rep(3000) .. "\r\n"))
refuse(413, "chunks that are too large together",
       chunked((("10000\r\n" .. ("x"):rep(65536) .. "\r\n"):rep(17)) .. "0\r\n\r\n"))

-- ---- lines ----

refuse(400, "LF behind the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n")
refuse(400, "LF behind a header", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n")
refuse(400, "LF for the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\n")
refuse(400, "LF everywhere", "GET / HTTP/1.1\nHost: a\n\n")
refuse(400, "CR for the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\rx")
refuse(400, "CR behind the request line", "GET / HTTP/1.1\rHost: a\r\n\r\n")
refuse(400, "CR behind a header", "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n")
refuse(400, "CR CR LF behind a header", "GET / HTTP/1.1\r\nHost: a\r\r\nX: y\r\n\r\n")
refuse(400, "CR inside a value", get "X: a\rTransfer-Encoding: chunked")
refuse(400, "LF inside a value", get "X: a\nTransfer-Encoding: chunked")
refuse(400, "CR at a value's start", get "X: \ra")
refuse(400, "CR at a value's end", get "X: a\r")
refuse(400, "folded header", get("X: a", " b"))
refuse(400, "folded by a tab", get("X: a", "\tb"))
refuse(400, "folded Host", "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n")
refuse(400, "folded Transfer-Encoding", post("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"))
refuse(400, "folded Content-Length", post("Content-Length:\r\n 5", "12345"))
refuse(400, "first header starts with a blank", "GET / HTTP/1.1\r\n Host: a\r\n\r\n")
refuse(400, "first header starts with a tab", "GET / HTTP/1.1\r\n\tHost: a\r\n\r\n")
refuse(400, "a line of blanks", get("X: a", " ", "Y: b"))
refuse(400, "line that starts with a blank hides a length",
       "GET / HTTP/1.1\r\nHost: a\r\n Content-Length: 5\r\n\r\n")
refuse(400, "two empty lines first", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
refuse(400, "an LF first", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
refuse(400, "a CR first", "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n")
refuse(400, "a blank first", " GET / HTTP/1.1\r\nHost: a\r\n\r\n")
refuse(400, "a byte order mark first", "\239\187\191GET / HTTP/1.1\r\nHost: a\r\n\r\n")
refuse(400, "NUL first", "\0GET / HTTP/1.1\r\nHost: a\r\n\r\n")

-- ---- headers ----

for _, name in ipairs { "", " ", "X ", "X\t", "X Y", "X\0Y", "X\1Y", "X\127", "X@Y", "X/Y", "X(Y)",
                        "X,Y", "X;Y", "X=Y", "X[Y]", "X{Y}",
                        "X\"Y\"", "X<Y>", "X?Y", "X\\Y", "X\160Y", "Xé" } do
  refuse(400, "header named " .. shown(name), get(name .. ": z"))
end
refuse(400, "header without colon", get "X")
refuse(400, "header without colon, blank inside", get "X y")
for _, value in ipairs { "\0", "a\0b", "a\1b", "\8", "a\11b", "a\12b", "\27[0m", "a\31b",
                         "\127" } do
  refuse(400, "header value " .. shown(value), get("X: " .. value))
end
refuse(431, "101 headers", "GET / HTTP/1.1\r\nHost: a\r\n" .. ("X: y\r\n"):rep(100) .. "\r\n")
refuse(431, "1,000 headers", "GET / HTTP/1.1\r\nHost: a\r\n" .. ("X: y\r\n"):rep(1000) .. "\r\n")
refuse(431, "a header of 20,000 bytes", get("X: " .. ("y"):rep(20000)))
refuse(431, "a header name of 20,000 bytes", get(("X"):rep(20000) .. ": y"))
refuse(431, "headers without end",
       "GET / HTTP/1.1\r\nHost: a\r\n" .. ("X: " .. ("y"):rep(100) .. "\r\n"):rep(200))
refuse(431, "a header that is one byte too long", get("X: " .. ("y"):rep(16384 - #get "X: " + 1)))

-- ---- Host ----

refuse(400, "no Host", "GET / HTTP/1.1\r\n\r\n")
refuse(400, "no Host, other headers", "GET / HTTP/1.1\r\nX: y\r\nConnection: close\r\n\r\n")
refuse(400, "Host twice", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n")
refuse(400, "two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhost: b\r\n\r\n")
refuse(400, "two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n")
for _, host in ipairs { "", " ", "a b", "a, b", "a/b", "a@b", "user@a", "user:pw@a", "a?b", "a#b",
                        "a\\b", "[::1", "::1", "[]", "[::g]", "a:b", "a:80:90",
                        "a:123456", ":80", "a:-1", "[::1]x", "[::1]:x", "http://a", "a<b", "a\"b",
                        "a\0", "a\127", "ä", "a\160" } do
  refuse(400, "Host: " .. shown(host), "GET / HTTP/1.1\r\nHost: " .. host .. "\r\n\r\n")
end
for _, name in ipairs { "Host ", "Host\t", " Host", "\tHost", "Ho st", "Host\0" } do
  refuse(400, "header named " .. shown(name) .. " for Host",
         "GET / HTTP/1.1\r\n" .. name .. ": a\r\n\r\n")
end

-- ---- the request line ----

for _, version in ipairs { "HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "HTTP/0.9", "HTTP/3.0", "HTTP/9.9",
                           "HTTP/0.0", "HTTP/1.3" } do
  refuse(505, "version " .. version, line("GET / " .. version))
end
for _, version in ipairs { "HTTP/11", "HTTP/1.", "HTTP/.1", "HTTP/", "HTTP", "HTTP/1", "HTTP/1.10",
                           "HTTP/01.1", "HTTP/1.1.1", "http/1.1", "Http/1.1",
                           "HTTP /1.1", "HTTP/ 1.1", "HTTP/1 .1", "HTTP/1.1 ", "HTTP/1.1\t",
                           "HTTP/1.1 x", "HTTP/+1.1", "HTTP/1.x", "HTTP/a.b", "HTTPS/1.1",
                           "ICE/1.0", "RTSP/1.0", "HTTP/1,1", "HTTP-1.1", "XHTTP/1.1", "/1.1",
                           "" } do
  refuse(400, "version " .. shown(version), line("GET / " .. version))
end
refuse(505, "the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
refuse(400, "no version", "GET /\r\nHost: a\r\n\r\n")
refuse(400, "no version, no headers", "GET /\r\n\r\n")
for _, method in ipairs { "CONNECT", "TRACE", "PROPFIND", "MKCOL", "SOURCE", "DESCRIBE", "FOO",
                          "M-SEARCH", "PURGE", "LINK", "get", "Get", "GETT", "GE", "QUERY",
                          "POSTX", "X" } do
  refuse(501, "method " .. method, line(method .. " / HTTP/1.1"))
end
refuse(400, "no method", line " / HTTP/1.1")
refuse(400, "a method with @", line "GE@T / HTTP/1.1")
refuse(400, "a method with a slash", line "GE/T / HTTP/1.1")
refuse(400, "a method in quotes", line '"GET" / HTTP/1.1')
refuse(400, "nothing but a method", line "GET")
refuse(400, "two blanks behind the method", line "GET  / HTTP/1.1")
refuse(400, "two blanks before the version", line "GET /  HTTP/1.1")
refuse(400, "a tab behind the method", line "GET\t/ HTTP/1.1")
refuse(400, "a tab before the version", line "GET /\tHTTP/1.1")
refuse(400, "a blank in the target", line "GET /a b HTTP/1.1")
refuse(400, "the whole line twice", line "GET / HTTP/1.1 GET / HTTP/1.1")
for _, target in ipairs { "a", "a/b", "?a", "#", "/#a", "/a#b", "*", "*x", "localhost",
                          "localhost:80", "//", "mailto:a@a", "ftp://a/", "http:/a", "http:",
                          "http://",
                          "http:///a", "http://b/", "http://a", "http://a?x", "https://b/a",
                          "http://a:80/", "http://user@a/", "http://a@b/", "http://[::1]/",
                          "/\0", "/\1", "/\127", "\\", "\\\\a", "//\0a", "http://a\\/" } do
  if target ~= "//" then
    refuse(400, "target " .. shown(target), line("GET " .. target .. " HTTP/1.1"))
  end
end
refuse(400, "POST to *", line "POST * HTTP/1.1")
refuse(414, "a target of 9,000 bytes", line("GET /" .. ("a"):rep(9000) .. " HTTP/1.1"))
refuse(414, "a target of one byte too many", line("GET /" .. ("a"):rep(8192) .. " HTTP/1.1"))
refuse(414, "a request line without end", "GET /" .. ("a"):rep(30000))
refuse(414, "a method without end", ("A"):rep(30000))

-- ---- other things that come to a port ----

refuse(400, "the start of TLS", "\22\3\1\2\0\1\0\1\252\3\3")
refuse(400, "an old start of TLS", "\128\46\1\3\1\0\21\0\0\0\16")
refuse(400, "a start-up packet of PostgreSQL", "\0\0\0\8\4\210\22\47")
refuse(400, "SSH", "SSH-2.0-OpenSSH_9.2\r\n\r\n")
refuse(400, "SMTP", "EHLO example.org\r\n\r\n")
refuse(400, "an answer", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
refuse(400, "JSON", '{"a":1}\r\n\r\n')
refuse(400, "the PROXY protocol",
       "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
refuse(400, "random bytes", "\211\3\17\145\200\13\10\13\10")
for _, value in ipairs { "200-ok", "100-continue, x", "100-continu", "", "100-continue;a" } do
  refuse(417, "Expect: " .. value, post("Content-Length: 5\r\nExpect: " .. value, "12345"))
end

-- ---- what must be accepted ----

accept("the smallest request", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / - 1.1 1 0")
for _, method in ipairs { "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS" } do
  accept("method " .. method, line(method .. " /x HTTP/1.1"), method .. " /x - 1.1 1 0")
end
accept("an empty line first", "\r\n" .. line "GET / HTTP/1.1", "GET / - 1.1 1 0")
accept("a query", line "GET /a?b=c&d HTTP/1.1", "GET /a b=c&d 1.1 1 0")
accept("an empty query", line "GET /a? HTTP/1.1", "GET /a  1.1 1 0")
accept("two question marks", line "GET /a?b?c HTTP/1.1", "GET /a b?c 1.1 1 0")
accept("escapes, left as they are", line "GET /a%2Fb%00 HTTP/1.1", "GET /a%2Fb%00 - 1.1 1 0")
accept("two slashes", line "GET //a HTTP/1.1", "GET //a - 1.1 1 0")
accept("dots", line "GET /../a/./b HTTP/1.1", "GET /../a/./b - 1.1 1 0")
accept("OPTIONS *", line "OPTIONS * HTTP/1.1", "OPTIONS * - 1.1 1 0")
accept("the form for proxies", line "GET http://a/b?c HTTP/1.1", "GET /b c 1.1 1 0")
accept("the form for proxies, letter case", line "GET HTTP://A/b HTTP/1.1", "GET /b - 1.1 1 0")
accept("a target of 8,192 bytes", line("GET /" .. ("a"):rep(8191) .. " HTTP/1.1"),
       "GET /" .. ("a"):rep(8191) .. " - 1.1 1 0")
for _, host in ipairs { "example.org", "example.org:8080", "127.0.0.1", "127.0.0.1:5000", "[::1]",
                        "[::1]:5000", "a:", "a-b.c_d~e", "A", "xn--4ca.de" } do
  accept("Host: " .. host, "GET / HTTP/1.1\r\nHost: " .. host .. "\r\n\r\n", "GET / - 1.1 1 0",
         { body = "Host=[" .. host .. "]\n" })
end
accept("blanks around a value", "GET / HTTP/1.1\r\nHost:  \t a \t \r\n\r\n", "GET / - 1.1 1 0",
       { body = "Host=[a]\n" })
accept("no blank before a value", "GET / HTTP/1.1\r\nHost:a\r\n\r\n", "GET / - 1.1 1 0")
accept("an empty value", get "X:", "GET / - 1.1 2 0", { body = "X=[]\n" })
accept("an empty value with blanks", get "X: \t ", "GET / - 1.1 2 0", { body = "X=[]\n" })
accept("a tab inside a value", get "X: a\tb", "GET / - 1.1 2 0", { body = "X=[a\tb]\n" })
accept("UTF-8 in a value", get "X: é", "GET / - 1.1 2 0", { body = "X=[é]\n" })
accept("all letters that a name may have", get "!#$%&'*+-.^_`|~09azAZ: y", "GET / - 1.1 2 0")
accept("100 headers", "GET / HTTP/1.1\r\nHost: a\r\n" .. ("X: y\r\n"):rep(99) .. "\r\n",
       "GET / - 1.1 100 0")
accept("a head of 16,384 bytes", get("X: " .. ("y"):rep(16384 - #get "X: ")), "GET / - 1.1 2 0")
accept("a body", post("Content-Length: 5", "hello"), "POST / - 1.1 2 5", { body = "\nhello" })
accept("a body of zeros and line ends", post("Content-Length: 6", "\0\r\n\r\n\0"),
       "POST / - 1.1 2 6", { body = "\0\r\n\r\n\0" })
accept("an empty body", post("Content-Length: 0", ""), "POST / - 1.1 2 0")
accept("leading zeros in Content-Length", post("Content-Length: 005", "hello"), "POST / - 1.1 2 5",
       { body = "\nhello" })
accept("a body of 1 MiB", post("Content-Length: 1048576", ("x"):rep(1048576)),
       "POST / - 1.1 2 1048576")
accept("GET with a body", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
       "GET / - 1.1 2 2", { body = "\nhi" })
accept("chunks", chunked "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", "POST / - 1.1 2 6",
       { body = "\nhello!" })
accept("no chunk", chunked "0\r\n\r\n", "POST / - 1.1 2 0")
accept("a last chunk of many zeros", chunked "00000000\r\n\r\n", "POST / - 1.1 2 0")
accept("chunk sizes in both cases", chunked("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"),
       "POST / - 1.1 2 20")
accept("leading zeros in a chunk size", chunked "0005\r\nhello\r\n0\r\n\r\n", "POST / - 1.1 2 5",
       { body = "\nhello" })
accept("chunk extensions", chunked "5;a=b;c\r\nhello\r\n0;d\r\n\r\n", "POST / - 1.1 2 5",
       { body = "\nhello" })
accept("trailers", chunked "5\r\nhello\r\n0\r\nX: y\r\nContent-Length: 9\r\n\r\n",
       "POST / - 1.1 2 5", { body = "\nhello" })
accept("line ends inside a chunk", chunked "4\r\n\r\n\r\n\r\n0\r\n\r\n", "POST / - 1.1 2 4",
       { body = "\n\r\n\r\n" })
accept("Chunked", post("transfer-encoding: Chunked", "2\r\nhi\r\n0\r\n\r\n"), "POST / - 1.1 2 2",
       { body = "\nhi" })
accept("a body of 1 MiB in chunks",
       chunked((("10000\r\n" .. ("x"):rep(65536) .. "\r\n"):rep(16)) .. "0\r\n\r\n"),
       "POST / - 1.1 2 1048576")
accept("Expect with the body at once", post("Content-Length: 2\r\nExpect: 100-continue", "hi"),
       "POST / - 1.1 3 2", { body = "\nhi" })
accept("an Upgrade that is not taken up", get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c",
                                              "HTTP2-Settings: AAA"), "GET / - 1.1 4 0")
accept("websocket, not taken up", get("Connection: Upgrade", "Upgrade: websocket"),
       "GET / - 1.1 3 0")
accept("Connection: close", get "Connection: close", "GET / - 1.1 2 0", { closes = true })
accept("Connection: Close, among others", get "Connection: x, Close", "GET / - 1.1 2 0",
       { closes = true })
accept("HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "GET / - 1.0 0 0", { closes = true })
accept("HTTP/1.0 with Host and body", "POST /x HTTP/1.0\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
       "POST /x - 1.0 2 2",
       { closes = true, body = "\nhi" })
accept("HTTP/1.0 with keep-alive", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
       "GET / - 1.0 1 0")

return corpus
