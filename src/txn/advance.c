#include "txn/advance.h"

#include "sql/many.h"
#include "sql/stmt.h"
#include "txn/merge.h"
#include "txn/txns.h"
#include "txn/vouch.h"

enum {
  TEXTS = 8,         /* that are looked at in a queue; inserts of further ones stay */
  MOST_LOOKS = 20000 /* rows compared for one queue */
};

/* An insert's text, and where its statements are. */
struct run {
  struct mp_text *text;
  unsigned count, together, most_together; /* in the whole queue; behind one another */
  struct mp_stmt *first, *last; /* those that lie behind one another; NULL: a barrier came since */
};

struct order {
  struct mp_work *work;
  struct mp_conn *conn;
  struct mp_list *queue;
  uint64_t number;
  struct mp_err *fault;
  struct run runs[TEXTS];
  unsigned nruns, looks;
};

static struct mp_stmt *stmt_at(struct mp_list *node) {
  return MP_LIST_ENTRY(node, struct mp_stmt, node);
}

static struct run *run_of(struct order *o, const struct mp_text *text) {
  for (unsigned i = 0; i < o->nruns; i++)
    if (o->runs[i].text == text) return &o->runs[i];
  return NULL;
}

/* ---- what there is ---- */

static void count(struct order *o) {
  const struct mp_text *before = NULL;
  MP_LIST_EACH(node, o->queue) {
    struct mp_stmt *stmt = stmt_at(node);
    if (mp_stmt_asks(stmt)) return; /* the segment ends here */
    struct run *run = mp_merge_may(o->work, stmt) ? run_of(o, stmt->text) : NULL;
    if (!run && mp_merge_may(o->work, stmt) && o->nruns < TEXTS) {
      run = &o->runs[o->nruns++];
      *run = (struct run){.text = stmt->text};
    }
    if (run) {
      run->count++;
      run->together = before == stmt->text ? run->together + 1 : 1;
      if (run->together > run->most_together) run->most_together = run->together;
    }
    before = stmt->text;
  }
}

/* Is there a text whose inserts are many, and are not together? Texts of which nothing is known are
 * asked for; those that will be merged anyway are asked for then. */
static bool worth_it(struct order *o) {
  bool worth = false;
  if (o->nruns < 2) return false;
  for (unsigned i = 0; i < o->nruns; i++) {
    struct run *run = &o->runs[i];
    if (run->count == run->most_together && run->count >= MP_MANY_LEAST) continue;
    if (run->most_together < MP_MANY_LEAST) mp_vouch_ask(o->work, o->conn, run->text, o->fault);
    worth |= run->count >= MP_MANY_LEAST;
  }
  return worth;
}

/* ---- moving ---- */

static struct mp_facts_row row_of(const struct mp_stmt *stmt) {
  const struct mp_many *many = stmt->text->many;
  return (struct mp_facts_row){.facts = &many->facts,
                               .columns = (int)many->columns,
                               .names = many->names,
                               .values = stmt->req.values};
}

static bool commute(struct order *o, const struct mp_stmt *a, const struct mp_stmt *b) {
  struct mp_facts_row row_a = row_of(a), row_b = row_of(b);
  return ++o->looks <= MOST_LOOKS && mp_facts_commute(&row_a, &row_b);
}

/* May it go behind the last of its run? A run of which no row can matter is passed as a whole. */
static bool passes(struct order *o, const struct run *own, struct mp_stmt *stmt) {
  struct mp_list *node = own->last->node.next;
  while (node != &stmt->node) {
    const struct mp_stmt *other = stmt_at(node);
    const struct run *run = run_of(o, other->text);
    bool whole = run && run->first == other &&
                 mp_facts_strangers(&stmt->text->many->facts, &other->text->many->facts);
    if (!whole && !commute(o, stmt, other)) return false;
    if (!mp_vouch_demand(o->work, o->conn, other->text, o->number, o->fault)) return false;
    node = whole ? run->last->node.next : node->next;
  }
  return mp_vouch_demand(o->work, o->conn, stmt->text, o->number, o->fault);
}

static void move(struct order *o, struct run *run, struct mp_stmt *stmt) {
  mp_list_remove(&stmt->node);
  mp_list_push_front(&run->last->node, &stmt->node);
  o->work->merging = MP_MERGE_MOVED;
}

static void bar(struct order *o) {
  for (unsigned i = 0; i < o->nruns; i++) o->runs[i].first = o->runs[i].last = NULL;
}

static bool movable(const struct order *o, const struct mp_stmt *stmt) {
  struct mp_text *text = stmt->text;
  if (!mp_merge_may(o->work, stmt)) return false;
  mp_vouch_in(o->work, text);
  return text->many->known == MP_MANY_SAME && text->many->facts.movable;
}

/* Calls and savepoints are no barrier by themselves: a statement of the host's own lies between. */
static void advance(struct order *o) {
  MP_LIST_EACH_SAFE(node, o->queue) {
    struct mp_stmt *stmt = stmt_at(node);
    if (mp_stmt_asks(stmt)) return; /* the segment ends here */
    struct run *run = movable(o, stmt) ? run_of(o, stmt->text) : NULL;
    if (!run) {
      bar(o);
      continue;
    }
    bool behind = run->last && run->last->node.next == node;
    bool moves = run->last && !behind && run->count >= MP_MANY_LEAST && passes(o, run, stmt);
    if (moves) move(o, run, stmt);
    if (!moves && !behind) run->first = stmt;
    run->last = stmt;
  }
}

void mp_advance(struct mp_work *work, struct mp_conn *conn, struct mp_list *queue, uint64_t number,
                struct mp_err *fault) {
  struct order o = {.work = work, .conn = conn, .queue = queue, .number = number, .fault = fault};
  if (work->merging == MP_MERGE_OFF) return;
  if (work->host->txns->fault && mp_fault_counts(work->host->txns->fault)) return;
  count(&o);
  if (worth_it(&o)) advance(&o);
}
