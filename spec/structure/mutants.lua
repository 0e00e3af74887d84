-- Mutants: mistakes that the transaction manager must never make, each with the test that sees it.
-- `make mutants` builds the host with one mistake at a time and expects that test to fail; without
-- the mistake it passes.
--
-- `replace` is pairs of texts: the first stands in the file exactly once. `test` is a spec, with a
-- filter if only a part of it concerns the mistake, or the name of a C test.
return {
  { name = "commit_tag_unchecked", about = "COMMIT's tag is not looked at",
    file = "src/txn/segment.c",
    replace = { [[s->committed = !err && !strcmp(PQcmdStatus(result->pg), "COMMIT");]],
                "s->committed = !err;" },
    test = "spec/fault/wire_spec.lua", filter = "answered with ROLLBACK" },

  { name = "begin_alone", about = "BEGIN has a segment of its own",
    file = "src/txn/segment.c",
    replace = { "  send_req(s, &s->begin);\n", [[
  send_req(s, &s->begin);
  static struct mp_sync alone;
  alone = (struct mp_sync){.on_done = of_begin_alone};
  mp_conn_sync(mp_link_conn(s->link), &alone);
]], "static void send_begin(struct mp_segment *s) {", [[
static void of_begin_alone(struct mp_sync *sync, struct mp_result *result,
                           const struct mp_err *err) {}
static void send_begin(struct mp_segment *s) {]] },
    test = "spec/fault/wire_spec.lua", filter = "BEGIN travels" },

  { name = "lost_commit_repeated",
    about = "a transaction whose COMMIT was lost is simply done again",
    file = "src/rules/attempts.c",
    replace = {
      "if (commit_sent && !tx->options.read_only) return doubt(tx, MP_TX_DO_DISCARD, err, now);",
                "(void)commit_sent;" },
    test = "sim_test" },

  { name = "doom_ignored", about = "a failed statement does not doom its transaction",
    file = "src/rules/attempts.c",
    replace = { "      return mp_tx_fail(tx, failed) | MP_TX_DO_RESUME;",
                "      return MP_TX_DO_RESUME;" },
    test = "tx_test" },

  { name = "serialization_failure_told",
    about = "a 40001 is given to the script, which may catch it",
    file = "src/rules/attempts.c",
    replace = { "if (failed->flags & MP_ERRF_RETRYABLE) return restart(tx, failed);", "" },
    test = "spec/fault/every_statement_spec.lua", filter = "never shows a retry" },

  { name = "unclean_reused", about = "a connection whose ROLLBACK failed is used again",
    file = "src/rules/attempts.c",
    replace = { "clean ? MP_TX_DO_RELEASE : MP_TX_DO_DISCARD",
                "clean ? MP_TX_DO_RELEASE : MP_TX_DO_RELEASE" },
    test = "tx_test" },

  { name = "witness_missing",
    about = "no witness is written: a lost COMMIT looks as if it had not been done",
    file = "src/txn/witness.c",
    replace = { [["insert into moonpool.witness (id, operation, tenant) values ($1, $2, $3)"]],
                [["select $1::text, $2::text, $3::text"]] },
    test = "spec/fault/kill_matrix_spec.lua" },

  { name = "unlock_missing", about = "the lock between hosts is kept",
    file = "src/txn/link.c",
    replace = { "void mp_link_unlock(struct mp_link *link) {",
                "void mp_link_unlock(struct mp_link *link) {\n  link->lock.state = \z
                  MP_LANE_LOCK_NONE;\n  if (link) return;" },
    test = "spec/fault/wire_spec.lua", filter = "its lock is given back" },

  { name = "deadline_ignored", about = "a transaction may last for ever",
    file = "src/txn/member.c",
    replace = { "  member->work->member_events->on_late(member);", "  (void)member;" },
    test = "spec/fault/deadline_spec.lua", filter = "while a statement runs" },

  { name = "savepoint_kept", about = "the work inside of a savepoint that failed stays",
    file = "src/rules/restarts.c",
    replace = { "  if (tx->state == MP_TX_FAILED && tx->failed_at >= tx->savepoints) {",
                "  if (false) {" },
    test = "tx_test" },

  { name = "answered_unflushed", about = "a caller hears of its work before its flush",
    file = "src/rules/attempts.c",
    replace = { "  if (tx->flush != MP_TX_FLUSHES_LATER) {", "  if (tx) {" },
    test = "spec/integration/shared_flush_spec.lua", filter = "waited for by the caller" },

  { name = "unflushed_seen", about = "who has seen work that a crash can undo is answered at once",
    file = "src/rules/attempts.c",
    replace = { "  bool held = now.unflushed && !tx->answered;", "  bool held = false;" },
    test = "spec/integration/shared_flush_spec.lua", filter = "holds back who" },

  { name = "lost_rollback_told",
    about = "a failure that tells of work that a crash can undo is told, since ROLLBACK was lost",
    file = "src/rules/attempts.c",
    replace = { "now.unflushed && failed;", "now.unflushed && false && failed;" },
    test = "sim_test" },

  { name = "read_not_held", about = "a transaction that only reads does not wait for the flush",
    file = "src/rules/attempts.c",
    replace = { "now.unflushed && tx->flush == MP_TX_CHANGES_NOTHING;", "false;" },
    test = "sim_test" },

  { name = "lost_flush_told", about = "a lost flush counts as done",
    file = "src/rules/attempts.c",
    replace = { "== MP_TX_UNFLUSHED) return doubt(tx, 0, err, now);",
                "== MP_TX_UNFLUSHED) return mp_tx_flushed(tx);" },
    test = "sim_test" },

  { name = "other_connection", about = "a flush counts for work from before its connection",
    file = "src/rules/durable.c",
    replace = { "wait->epoch != d->epoch", "!wait" },
    test = "durable_test" },

  { name = "early_flush", about = "a flush counts for who came after it had begun",
    file = "src/rules/durable.c",
    replace = { "  mp_list_push_back(&d->next, &wait->node);",
                "  mp_list_push_back(d->state == MP_DURABLE_FLUSHING ? &d->current : &d->next,\n\
                    &wait->node);" },
    test = "durable_test" },

  { name = "lane_jumped", about = "who comes last to a lane is served first",
    file = "src/rules/lane.c",
    replace = { "a->priority < b->priority : a->order < b->order",
                "a->priority < b->priority : a->order > b->order" },
    test = "sim_test" },

  { name = "lane_never_taken_over", about = "a reserved place is never given up: lanes deadlock",
    file = "src/rules/lane.c",
    replace = { "if (!lane->reserved) return NULL;", "if (lane) return NULL;" },
    test = "flow_test" },

  { name = "group_witness_missing", about = "the calls of a group leave no witness",
    file = "src/txn/group.c",
    replace = { "bool witness = m->changed && mp_witness_there(work);",
                "bool witness = false;" },
    test = "spec/fault/kill_matrix_spec.lua", filter = "groups" },

  { name = "group_undo_missing", about = "what the failed member of a group did stays",
    file = "src/txn/group.c",
    replace = { [["ROLLBACK TO SAVEPOINT mp_1"]], [["SAVEPOINT mp_2"]] },
    test = "spec/fault/kill_matrix_spec.lua", filter = "groups" },

  { name = "group_out_of_order",
    about = "a group takes lanes as they come, so that two of them can lock each other out",
    file = "src/rules/groups.c",
    replace = { "    if (pass_of(node)->order > order) return pass_of(node);",
                "    (void)order;\n    return pass_of(node);" },
    test = "groups_test" },

  { name = "behind_failed_kept",
    about = "what was sent behind a failed transaction is taken for a failure of its own",
    file = "src/txn/segment.c",
    replace = { "return s->link->front_failed && ", "return false && " },
    test = "spec/integration/lane_handover_spec.lua", filter = "starts again" },

  { name = "rolled_back_twice",
    about = "a COMMIT that failed is rolled back behind what the next one has sent already",
    file = "src/txn/ended.c",
    replace = { "  if (actions & MP_TX_DO_ROLLBACK) { /* the server has",
                "  if (actions & MP_TX_DO_ROLLBACK) mp_segment_send_rollback(&MP_CONTAINER_OF(\n"
                .. "      behind, struct mp_txn, link)->segment);\n"
                .. "  if (actions & MP_TX_DO_ROLLBACK) { /* the server has" },
    test = "spec/integration/lane_handover_spec.lua", filter = "although COMMIT failed" },

  { name = "cancel_of_another", about = "a cancel hits the next transaction on the connection",
    file = "src/txn/link.c",
    replace = { "if (link->cancel_wanted || link->behind || !link->lease.conn) return 0;",
                "if (link->cancel_wanted || !link->lease.conn) return 0;" },
    test = "sim_test" },

  { name = "given_back_early", about = "a connection is given back while answers are still to come",
    file = "src/txn/link.c",
    replace = { "  if (link->unanswered) {\n", "  if (false) {\n" },
    test = "sim_test" },

  { name = "broken_granted", about = "a lost connection is given out again",
    file = "src/pool/policy_events.c",
    replace = { "    slot->broken = true;\n", "    slot->broken = false;\n" },
    test = "policy_sim_test" },

  { name = "merged_row_of_another", about = "a merged row is given to the wrong caller",
    file = "src/txn/merge.c",
    replace = { "if (!err) stmt->row = i;", "if (!err) stmt->row = m->n - 1 - i;" },
    test = "spec/integration/merge_spec.lua", filter = "a handful of statements" },

  { name = "row_not_asked_for", about = "a row that is in the result is not asked for",
    file = "src/txn/member.c",
    replace = { "         !mp_row_within(co, 1);", "         co;" },
    test = "spec/integration/unseen_rows_spec.lua", filter = "is in the result" },

  { name = "merged_again", about = "after a merged statement has failed, they are merged again",
    file = "src/txn/vouch.c",
    replace = { "  work->merging = MP_MERGE_OFF;\n", "" },
    test = "spec/integration/merge_spec.lua", filter = "the error of the row" },

  { name = "merge_unasked", about = "inserts whose rows see each other are merged",
    file = "src/txn/vouch.c",
    replace = { "  if (many->asked_in == number || ",
                "  if (true || many->asked_in == number || " },
    test = "spec/integration/merge_spec.lua", filter = "trigger would see them" },

  { name = "insert_before_its_reader",
    about = "an insert is moved past a statement that reads it",
    file = "src/txn/advance.c",
    replace = { "      bar(o);\n      continue;", "      continue;" },
    test = "spec/integration/merge_order_spec.lua", filter = "a statement that reads" },

  { name = "insert_before_its_parent",
    about = "an insert is moved past the row that it refers to",
    file = "src/sql/facts.c",
    replace = { "!key_differs(pairs, child, parent)) return false;",
                "!key_differs(pairs, child, parent)) return true;" },
    test = "spec/integration/merge_order_spec.lua", filter = "a row that comes later" },

  { name = "group_not_undone",
    about = "without savepoints, what a failed call has written is stored with its group",
    file = "src/txn/group.c",
    replace = { "  if (member->wrote || mp_tx_doomed(", "  if (mp_tx_doomed(" },
    test = "spec/integration/group_merge_spec.lua", filter = "behind what they have written" },
}
