-- Writes moonpool.env, the settings of the service: each setting of `moonpool config --markdown` as
-- a comment, with its default.
--
--   lua5.4 environment.lua PROGRAM > moonpool.env
local pipe = assert(io.popen("'" .. arg[1] .. "' config --markdown"))
local list = pipe:read "a"
assert(pipe:close())

-- Told above the list.
local told = { MOONPOOL_OWNER_URL = true, DATABASE_URL = true }

print [[
# The settings of moonpool.service: NAME=VALUE, read by systemd before the host starts, and by a
# shell with: set -a; . /etc/moonpool/moonpool.env
# Only root can read this file. After a change: systemctl restart moonpool

# The project, a folder with scripts/ and migrations/ that the user moonpool can read.
#MOONPOOL_APP=/srv/moonpool

# The database, as the application role (moonpool help deploying). Without it the host starts a
# private PostgreSQL in /var/lib/moonpool, if this machine has one.
# MOONPOOL_OWNER_URL, for migrate and token, does not belong here: a host must not know it.
#DATABASE_URL=postgres://moonpool_app:PASSWORD@db.example/shop]]

for item in list:gsub("\n%- ", "\0"):sub(3):gsub("\n$", ""):gmatch "%Z+" do
  local name, rest = item:match "^`([%u_]+)`(.*)$"
  if not told[name] then
    local default = rest:match "^ = (%d+)"
    print(("\n# %s\n#%s=%s"):format((rest:gsub("^[:%s]+", ""):gsub("\n *", "\n# ")), name,
                                    default or ""))
  end
end
