-- moonpool.outbox.store: the statements of the relay and of `moonpool outbox`, over the tables that
-- migrate/system_versions.lua describes. They need a connection with moonpool.relay set.
local db   = require "moonpool.db"
local json = require "moonpool.json"

local store = { channel = "moonpool_outbox" }

-- The class of the advisory lock of a subscriber's relay. Migrations use the number before it.
local LOCK_CLASS = 1836019567

--- Prepares a leased connection for these statements.
function store.prepare(conn)
  conn.exec "set moonpool.relay = 'on'"
end

--- Runs fn(conn) on a connection for these statements. Returns its result.
function store.with(fn)
  return db.lease(function(conn)
    store.prepare(conn)
    return fn(conn)
  end)
end

--- Tries to acquire the lock of the subscriber's relay. True: this connection holds the lock, until
--- unlock or until the connection ends.
function store.lock(conn, name)
  return conn.value("select pg_try_advisory_lock($1, hashtext($2))", LOCK_CLASS, name)
end

--- Releases the lock at once. Without this call it is held until the server notices that the
--- connection has ended.
function store.unlock(conn, name)
  conn.value("select pg_advisory_unlock($1, hashtext($2))", LOCK_CLASS, name)
end

--- Adapts the tables after a restore into a server whose transaction numbers are lower.
function store.renumber(conn)
  conn.exec [[
    select moonpool.renumber() where exists (
      select from moonpool.subscriber where low > pg_snapshot_xmax(pg_current_snapshot()))]]
end

--- True if the subscriber is known and has this topic.
function store.is_known(conn, name, topic)
  return conn.value(
    "select exists (select from moonpool.subscriber where name = $1 and topic = $2)", name, topic)
end

--- Registers the subscriber, or changes its topic. It gets all messages that are not visible yet,
--- or (`oldest`) all messages that are kept. Messages that are visible now but lie above its mark,
--- because an older transaction still runs, are noted as delivered.
--- -> true if the subscriber was unknown or had another topic
function store.begin(conn, name, topic, oldest)
  return conn.value([[
    with new as (
      insert into moonpool.subscriber as s (name, topic, low)
      values ($name, $topic, case when $oldest then '0'
        else pg_snapshot_xmin(pg_current_snapshot()) end)
      on conflict (name) do update set topic = excluded.topic, low = excluded.low, seen_at = now()
        where s.topic <> excluded.topic
      returning low
    ), settled as (
      insert into moonpool.delivered (subscriber, message, xid)
      select $name, o.id, o.xid from new, moonpool.outbox o
       where not $oldest and o.topic = $topic and o.xid >= new.low
      on conflict do nothing
    )
    select count(*) > 0 from new]], { name = name, topic = topic, oldest = oldest })
end

--- The number of messages of the topic in the outbox.
function store.kept(conn, topic)
  return conn.value("select count(*) from moonpool.outbox where topic = $1", topic)
end

--- Renames the subscriber `old` to `name`, together with its notes of deliveries and failures. The
--- caller must hold the lock of `old`, so that no relay serves it.
function store.rename(conn, old, name, topic)
  conn.exec([[
    with renamed as (
      update moonpool.subscriber set name = $name, seen_at = now()
       where name = $old and topic = $topic and
         not exists (select from moonpool.subscriber where name = $name)
      returning 1
    ), gone as (
      delete from moonpool.delivered where subscriber = $old and exists (select from renamed)
        returning *
    ), moved as (
      insert into moonpool.delivered select $name, message, xid, delivered_at from gone
    )
    update moonpool.failure set subscriber = $name where subscriber = $old
      and exists (select from renamed)]],
    { name = name, old = old, topic = topic })
end

--- Notes that a relay serves the subscriber now.
function store.seen(conn, name)
  conn.exec("update moonpool.subscriber set seen_at = now() where name = $1", name)
end

--- The next messages of a subscriber, in the order in which they were published. Left out are
--- messages that come after a failed one of the same key, as long as that one is not due.
---@return table[] { id, xid, topic, key, tenant, payload, published_at, deliveries, failed }
function store.fetch(conn, name, topic, limit)
  return conn.query([[
    with subscriber as (select name, low from moonpool.subscriber where name = $name),
    candidate as (
      select o.*, 0 as deliveries, false as failed
        from moonpool.outbox o, subscriber s
       where o.topic = $topic and o.xid >= s.low
         and not exists (select from moonpool.failure f where f.subscriber = s.name
           and f.message = o.id)
      union all
      select o.*, f.deliveries, true
        from moonpool.failure f join moonpool.outbox o on o.id = f.message, subscriber s
       where f.subscriber = s.name and not f.dead and f.next_at <= clock_timestamp()
    )
    select c.id, c.xid::text as xid, c.topic, c.key, c.tenant, c.payload, c.published_at,
      c.deliveries,
           c.failed
      from candidate c, subscriber s
     where not exists (select from moonpool.delivered d where d.subscriber = s.name
       and d.message = c.id)
       and not exists (select from moonpool.failure b
                        where b.subscriber = s.name and not b.dead and b.next_at > clock_timestamp()
                          and b.key = c.key
                          and b.tenant is not distinct from c.tenant and b.message < c.id)
     order by c.id limit $limit]], { name = name, topic = topic, limit = limit })
end

--- Seconds until the next failed message of the subscriber is due; nil if no message waits for a
--- retry.
function store.next_due(conn, name)
  return conn.value([[
    select greatest(0, extract(epoch from next_at - clock_timestamp()))::float8
      from moonpool.failure where subscriber = $name and not dead order by next_at limit 1]],
        { name = name })
end

-- Notes a delivery, inside the subscriber's transaction. If a message is delivered twice, the
-- second transaction fails here with a violation of delivered_pkey.
store.note =
  "insert into moonpool.delivered (subscriber, message, xid) values ($1, $2::bigint, $3::xid8)"

--- Notes a failed delivery. -> a row with `deliveries`, the number of failed deliveries so far, and
--- `dead`, true if this one was the last
function store.fail(conn, name, message, failure)
  return conn.one([[
    insert into moonpool.failure as f (subscriber, message, key, tenant, deliveries, next_at, dead,
      error)
    values ($name, $id, $key, $tenant, 1, clock_timestamp() + make_interval(secs => $wait_s),
      $most <= 1, $error)
    on conflict (subscriber, message) do update
      set deliveries = f.deliveries + 1, next_at = excluded.next_at, error = excluded.error,
        failed_at = now(),
          dead = f.deliveries + 1 >= $most
    returning deliveries, dead]],
    { name = name, id = message.id, key = message.key or json.null,
      tenant = message.tenant or json.null,
      wait_s = failure.wait_s, most = failure.most, error = failure.text })
end

--- Notes a delivery that failed for a reason that is not the message's. It is not counted. The
--- message waits twice as long as the last time, at least `wait_s` and at most `most_s` seconds.
--- -> the wait in seconds
function store.postpone(conn, name, message, wait_s, most_s, text)
  return conn.value([[
    insert into moonpool.failure as f (subscriber, message, key, tenant, deliveries, next_at, error,
      failed_at)
    values ($name, $id, $key, $tenant, 0, clock_timestamp() + make_interval(secs => $wait_s),
      $error, clock_timestamp())
    on conflict (subscriber, message) do update
      set failed_at = excluded.failed_at, error = excluded.error,
          next_at = clock_timestamp() + make_interval(secs =>
            least($most_s, greatest($wait_s, 2 * extract(epoch
              from f.next_at - f.failed_at)::float8)))
    returning extract(epoch from next_at - failed_at)::float8]],
    { name = name, id = message.id, key = message.key or json.null,
      tenant = message.tenant or json.null,
      wait_s = wait_s, most_s = most_s, error = text })
end

--- Deletes the failure of a message that is delivered now.
function store.forget_failure(conn, name, message)
  conn.exec("delete from moonpool.failure where subscriber = $name and message = $id",
            { name = name, id = message.id })
end

--- Moves the subscriber's mark (`low`) up to its first message that is neither delivered nor
--- failed, but not beyond the oldest running transaction, which may still publish. Rows of
--- moonpool.delivered below the mark are not needed any more and are deleted.
function store.advance(conn, name)
  conn.exec([[
    delete from moonpool.failure f using moonpool.delivered d
     where f.subscriber = $name and d.subscriber = $name and d.message = f.message]],
       { name = name })
  conn.exec([[
    update moonpool.subscriber s
       set seen_at = now(), low = greatest(s.low, least(pg_snapshot_xmin(pg_current_snapshot()), (
         select min(o.xid) from moonpool.outbox o
          where o.topic = s.topic and o.xid >= s.low
            and not exists (select from moonpool.delivered d
              where d.subscriber = s.name and d.message = o.id)
            and not exists (select from moonpool.failure f where f.subscriber = s.name
              and f.message = o.id))))
     where name = $name]], { name = name })
  conn.exec([[
    delete from moonpool.delivered d using moonpool.subscriber s
     where s.name = $name and d.subscriber = $name and d.xid < s.low
       and not exists (select from moonpool.failure f where f.subscriber = $name
         and f.message = d.message)]], { name = name })
end

--- -> { waiting, oldest, dead }: the number of messages that are not delivered yet (counted up to
--- 10000, failed ones included), the age of the oldest one in seconds, the number of dead letters.
function store.measure(conn, name, topic)
  local row = conn.one([[
    with s as (select low from moonpool.subscriber where name = $name),
    open as (
      (select o.published_at from moonpool.outbox o, s
        where o.topic = $topic and o.xid >= s.low
          and not exists (select from moonpool.delivered d where d.subscriber = $name
            and d.message = o.id)
          and not exists (select from moonpool.failure f where f.subscriber = $name
            and f.message = o.id)
        limit 10000)
      union all
      (select o.published_at from moonpool.failure f join moonpool.outbox o on o.id = f.message
        where f.subscriber = $name and not f.dead limit 10000)
    )
    select count(*) as waiting,
      coalesce(extract(epoch from clock_timestamp() - min(published_at)), 0)::float8 as oldest,
           (select count(*) from moonpool.failure where subscriber = $name and dead) as dead
      from open]], { name = name, topic = topic })
  return { waiting = row.waiting, oldest = math.max(0, row.oldest), dead = row.dead }
end

-- For people --------------------------------------------------------------------------------------

local filtered = [[ ($subscriber::text is null or f.subscriber = $subscriber)
                and ($message::bigint is null or f.message = $message)
                and ($dead::boolean is null or f.dead = $dead) ]]

local function values(filter)
  return { subscriber = filter.subscriber or json.null, message = filter.message or json.null,
           dead = filter.dead == nil and json.null or filter.dead }
end

function store.failures(conn, filter)
  return conn.query([[
    select f.subscriber, f.message, o.topic, f.key, f.tenant, f.deliveries, f.dead, f.error,
      f.failed_at, f.next_at, o.payload
      from moonpool.failure f join moonpool.outbox o on o.id = f.message
     where ]] .. filtered .. " order by f.failed_at, f.message", values(filter))
end

function store.requeue(conn, filter)
  return conn.count([[
    update moonpool.failure f set dead = false, deliveries = case when dead then 0
      else deliveries end, next_at = now()
     where ]] .. filtered, values(filter))
end

function store.drop(conn, filter)
  return conn.value([[
    with gone as (delete from moonpool.failure f where ]] .. filtered ..
      [[ returning subscriber, message),
    noted as (
      insert into moonpool.delivered (subscriber, message, xid)
      select g.subscriber, g.message, o.xid from gone g join moonpool.outbox o on o.id = g.message
      on conflict do nothing)
    select count(*) from gone]], values(filter))
end

function store.subscribers(conn)
  return conn.query [[
    select s.name, s.topic, s.created_at, s.seen_at,
           (select count(*) from moonpool.outbox o
             where o.topic = s.topic and o.xid >= s.low
               and not exists (select from moonpool.delivered d
                 where d.subscriber = s.name and d.message = o.id)
               and not exists (select from moonpool.failure f
                 where f.subscriber = s.name and f.message = o.id)) as waiting,
           (select count(*) from moonpool.failure f where f.subscriber = s.name
             and not f.dead) as failing,
           (select count(*) from moonpool.failure f where f.subscriber = s.name and f.dead) as dead
      from moonpool.subscriber s order by s.name]]
end

function store.forget(conn, name)
  conn.exec("delete from moonpool.failure where subscriber = $1", name)
  conn.exec("delete from moonpool.delivered where subscriber = $1", name)
  return conn.count("delete from moonpool.subscriber where name = $1", name) > 0
end

return store
