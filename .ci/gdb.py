# gdb.py: what a host is doing, for gdb. `gdb -p PID -x .ci/gdb.py` adds these commands, which need only memory (a core file
# too):
#   mp tasks    every task: state, the wait it is in, on whose behalf
#   mp pool     every connection: state, server process, who holds it and for how long
import gdb


def runtime():
    frame = gdb.newest_frame()
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        frame = gdb.newest_frame()
        while frame is not None:
            if frame.name() in ("mp_runtime_run", "mp_runtime_close"):
                return frame.read_var("rt")
            frame = frame.older()
    raise gdb.GdbError("no frame of mp_runtime_run: is this a moonpool that runs?")


def entries(head, kind, field):
    """The structs of type `kind` whose member `field` is on the list `head`."""
    struct = gdb.lookup_type(kind)
    offset = [f.bitpos // 8 for f in struct.fields() if f.name == field][0]
    node, end = head["next"], head.address
    while node != end:
        address = node.cast(gdb.lookup_type("char").pointer()) - offset
        yield address.cast(struct.pointer()).dereference()
        node = node["next"]


def text(value):
    return value.string(errors="replace") if value.type.code == gdb.TYPE_CODE_ARRAY else str(value)


class Mp(gdb.Command):
    """mp tasks, mp pool: what a moonpool host is doing."""

    def __init__(self):
        super().__init__("mp", gdb.COMMAND_STATUS, prefix=True)


class Tasks(gdb.Command):
    """mp tasks: every task of the scheduler."""

    def __init__(self):
        super().__init__("mp tasks", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        for task in entries(runtime()["sched"]["tasks"], "struct mp_task", "all"):
            state = str(task["state"]).replace("MP_TASK_", "").lower()
            print("%-8s wait %-6d %s  %s" % (state, int(task["wait"]), task.address, text(task["name"])))


class Pool(gdb.Command):
    """mp pool: every connection of the pool, and who holds it."""

    def __init__(self):
        super().__init__("mp pool", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        pool = runtime()["pool"].dereference()
        for i in range(int(pool["slot_count"])):
            slot = pool["slots"][i].dereference()
            if not int(slot["conn"]):
                continue
            conn, lease = slot["conn"].dereference(), slot["lease"]
            holder = "free"
            if int(lease):
                holder = "held by %s, lease data %s" % (text(lease["where"]) or "?", lease["data"])
            print("%-3d %s %s  %s" % (i, slot["conn"], str(conn["state"]).replace("MP_CONN_", "").lower(), holder))


Mp()
Tasks()
Pool()
