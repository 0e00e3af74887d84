/* agree.c: one reload for all workers of the host: all of them change, or none.
 *
 *   front:   LOADING --> AGREEING --> the generation is installed, or closed
 *   worker:  NONE --> LOADING --> AGREEING --> NONE
 *
 * The front loads its files first. Then each worker gets the same files under the same number,
 * loads them and says whether they load there. When all have answered, the front decides. Its
 * decision travels in front of all calls that it hands out afterwards, so no caller sees an older
 * generation than one that has answered him. */
#include <stdlib.h>
#include <string.h>

#include "ops/crew.h"
#include "ops/generation_priv.h"

/* Owner: the front, and the worker that has it; from the decision on the worker's generation, with
 * which it lives. Freed when it is home again. */
struct mp_proposal {
  struct mp_letter letter;
  struct mp_list node; /* the front's, from the worker's answer to the decision */
  struct mp_generations *front;
  struct mp_crew *crew;
  unsigned worker, round;
  struct mp_files *files;
  unsigned number;
  bool good;      /* the worker's answer ... */
  char text[800]; /* ... and why not */
  bool install;   /* the front's decision */
};

static void send_to_worker(struct mp_proposal *it, void (*open)(struct mp_letter *)) {
  it->letter.open = open;
  mp_crew_send(it->crew, it->worker, &it->letter);
}

static void send_home(struct mp_proposal *it, void (*open)(struct mp_letter *)) {
  it->letter.open = open;
  mp_crew_send(it->crew, 0, &it->letter);
}

/* ---- the end of a proposal, on the front ---- */

/* A generation of the front lasts as long as that of a worker: its calls have one number. */
static void worker_is_done(struct mp_generations *set, unsigned number) {
  MP_LIST_EACH(node, &set->all) {
    struct mp_generation *gen = MP_LIST_ENTRY(node, struct mp_generation, node);
    if (gen->number == number && gen->elsewhere) gen->elsewhere--;
  }
}

static void on_home(struct mp_letter *letter) {
  struct mp_proposal *it = MP_CONTAINER_OF(letter, struct mp_proposal, letter);
  if (it->install) worker_is_done(it->front, it->number);
  mp_files_unref(it->files);
  MP_FREE_LISTED(it);
}

/* ---- the worker ---- */

static void on_decided(struct mp_letter *letter) {
  struct mp_proposal *it = MP_CONTAINER_OF(letter, struct mp_proposal, letter);
  struct mp_generations *set = mp_crew_generations(it->crew, it->worker);
  struct mp_generation *gen = it->good ? set->reload.loading : NULL;
  if (gen) mp_reload_clear(set);
  if (gen && it->install) {
    gen->proposal = it;
    mp_generation_install(gen);
    return;
  }
  if (gen) mp_generation_close(gen, "another worker cannot load it");
  send_home(it, on_home);
}

void mp_agree_gone(struct mp_generation *gen) {
  if (gen->proposal) send_home(gen->proposal, on_home);
}

static void on_answered(struct mp_letter *letter);

static void answer_front(struct mp_generations *set, bool good, const char *text) {
  struct mp_proposal *it = set->reload.proposal;
  set->reload.proposal = NULL;
  it->good = good;
  mp_copy_text(it->text, sizeof it->text, text);
  send_home(it, on_answered);
}

static void on_proposed(struct mp_letter *letter) {
  struct mp_proposal *it = MP_CONTAINER_OF(letter, struct mp_proposal, letter);
  struct mp_generations *set = mp_crew_generations(it->crew, it->worker);
  set->reload.proposal = it;
  if (set->stopping)
    answer_front(set, false, "the host is stopping");
  else
    mp_reload_load(set, it->files, it->number);
}

void mp_agree_refused(struct mp_generations *set, const char *text) {
  if (set->reload.proposal) answer_front(set, false, text);
}

/* ---- the front ---- */

static void decide(struct mp_generations *set) {
  const char *fault = NULL;
  MP_LIST_EACH(node, &set->reload.answers) {
    const struct mp_proposal *it = MP_LIST_ENTRY(node, struct mp_proposal, node);
    if (!it->good) fault = it->text;
  }
  char text[sizeof((struct mp_proposal *)0)->text] = "";
  if (fault) memcpy(text, fault, sizeof text);
  struct mp_list *node;
  while ((node = mp_list_pop_front(&set->reload.answers))) {
    struct mp_proposal *it = MP_LIST_ENTRY(node, struct mp_proposal, node);
    it->install = !fault;
    send_to_worker(it, on_decided);
  }
  if (fault) {
    mp_reload_fail(set, text);
    return;
  }
  set->reload.loading->elsewhere = mp_crew_workers(set->options.crew) - 1;
  mp_reload_succeed(set);
}

static void on_answered(struct mp_letter *letter) {
  struct mp_proposal *it = MP_CONTAINER_OF(letter, struct mp_proposal, letter);
  struct mp_generations *set = it->front;
  if (set->reload.stage != MP_RELOAD_AGREEING || it->round != set->reload.round) { /* too late */
    send_to_worker(it, on_decided);
    return;
  }
  mp_list_push_back(&set->reload.answers, &it->node);
  if (--set->reload.asked == 0) decide(set);
}

static void ask_workers(struct mp_generations *set) {
  struct mp_crew *crew = set->options.crew;
  struct mp_proposal *made[MP_WORKERS_MAX];
  unsigned n = mp_crew_workers(crew);
  for (unsigned i = 1; i < n; i++) {
    made[i] = calloc(1, sizeof **made);
    if (made[i]) continue;
    while (--i) free(made[i]);
    mp_reload_fail(set, "no memory to ask the workers");
    return;
  }
  set->reload.round++;
  set->reload.asked = n - 1;
  for (unsigned i = 1; i < n; i++) {
    struct mp_proposal *it = made[i];
    it->front = set;
    it->crew = crew;
    it->worker = i;
    it->round = set->reload.round;
    it->files = mp_files_ref(set->reload.read);
    it->number = set->reload.loading->number;
    mp_list_init(&it->node);
    send_to_worker(it, on_proposed);
  }
}

void mp_agree_loaded(struct mp_generations *set) {
  set->reload.stage = MP_RELOAD_AGREEING;
  if (set->options.worker)
    answer_front(set, true, "");
  else
    ask_workers(set);
}

void mp_agree_stop(struct mp_generations *set) {
  struct mp_list *node;
  while ((node = mp_list_pop_front(&set->reload.answers)))
    send_to_worker(MP_LIST_ENTRY(node, struct mp_proposal, node), on_decided);
}
