#include "ops/errand.h"

#include <stdlib.h>
#include <string.h>

#include "util/sm.h"

#define ERRAND_STATES(X)                               \
  X(HOME, MP_TO(ERRAND_AWAY))                          \
  X(AWAY, MP_TO(ERRAND_HOME) | MP_TO(ERRAND_RECALLED)) \
  X(RECALLED, 0)

enum errand_state {
#define X(name, moves) ERRAND_##name,
  ERRAND_STATES(X)
#undef X
};

MP_SM_TABLE(machine, "errand", ERRAND_STATES, NULL);

struct mp_errand {
  struct mp_letter letter; /* there and back */
  struct mp_letter recall; /* behind it */
  struct mp_crew *crew;
  const struct mp_errand_events *events;
  enum errand_state state; /* the front's */
  unsigned worker;
  void *data;
  struct mp_invoke_options options;
  struct mp_log_about about;

  /* the worker's while it is away */
  void *work;
  bool answered;
  struct mp_invoke_answer answer;
  char *answer_text; /* and what else is text; NULL with an answer: there was no memory for it */

  char texts[]; /* of the options */
};

static bool move(struct mp_errand *errand, enum errand_state to) {
  if (!mp_sm_may(&machine, errand->state, to)) return false;
  errand->state = to;
  return true;
}

/* ---- a copy of the options ---- */

/* The texts of the options and of what they are about. */
static const size_t texts[] = {
#define AT(field) offsetof(struct mp_errand, field)
    AT(options.name),     AT(options.entry),  AT(options.tenant),  AT(options.user),
    AT(options.scopes),   AT(options.key),    AT(about.operation), AT(about.call_id),
    AT(about.request_id), AT(about.trace_id), AT(about.span_id),   AT(about.parent_id),
#undef AT
};

static const char **text_at(struct mp_errand *errand, size_t i) {
  return (const char **)(void *)((char *)errand + texts[i]);
}

int mp_errand_new(struct mp_errand **out, struct mp_crew *crew,
                  const struct mp_invoke_options *options, const struct mp_errand_events *events,
                  void *data, struct mp_err *err) {
  struct mp_errand from = {.crew = crew, .events = events, .data = data, .options = *options};
  if (options->about) from.about = *options->about;
  size_t size = sizeof from + options->input_len + 1;
  for (size_t i = 0; i < MP_ARRAY_LEN(texts); i++)
    if (*text_at(&from, i)) size += strlen(*text_at(&from, i)) + 1;
  struct mp_errand *errand = malloc(size);
  if (!errand) return mp_err_set(err, MP_ENOMEM, "no memory for a call");
  *errand = from;
  char *at = errand->texts;
  for (size_t i = 0; i < MP_ARRAY_LEN(texts); i++) {
    const char **text = text_at(errand, i);
    if (!*text) continue;
    char *copy = at;
    at = stpcpy(copy, *text) + 1;
    *text = copy;
  }
  if (options->input) {
    memcpy(at, options->input, options->input_len);
    at[options->input_len] = '\0';
    errand->options.input = at;
  }
  errand->options.about = options->about ? &errand->about : NULL;
  *out = errand;
  return 0;
}

void mp_errand_free(struct mp_errand *errand) {
  free(errand->answer_text);
  free(errand);
}

/* ---- there and back ---- */

static void on_arrival(struct mp_letter *letter) {
  struct mp_errand *errand = MP_CONTAINER_OF(letter, struct mp_errand, letter);
  errand->events->begin(errand);
}

static void on_return(struct mp_letter *letter) {
  struct mp_errand *errand = MP_CONTAINER_OF(letter, struct mp_errand, letter);
  if (errand->state == ERRAND_RECALLED) return; /* its recall follows */
  char *text = errand->answer_text;
  errand->answer_text = NULL;
  if (move(errand, ERRAND_HOME)) errand->events->back(errand, &errand->answer);
  free(text);
}

void mp_errand_go(struct mp_errand *errand, unsigned worker) {
  if (!move(errand, ERRAND_AWAY)) return;
  errand->worker = worker;
  errand->work = NULL;
  errand->answered = false;
  errand->letter.open = on_arrival;
  mp_crew_take(errand->crew, worker);
  mp_crew_send(errand->crew, worker, &errand->letter);
}

static size_t room(const char *text) { return text ? strlen(text) + 1 : 0; }

static const char *append(char **end, const char *text) {
  char *at = *end;
  size_t size = room(text);
  if (!size) return NULL;
  memcpy(at, text, size);
  *end += size;
  return at;
}

void mp_errand_answer(struct mp_errand *errand, const struct mp_invoke_answer *answer) {
  if (errand->answered) return;
  char *copy =
      malloc(answer->len + 1 + room(answer->detail) + room(answer->code) + room(answer->message));
  errand->answered = true;
  errand->answer = *answer;
  errand->answer_text = copy;
  errand->answer.text = copy;
  errand->answer.detail = errand->answer.code = errand->answer.message = NULL;
  if (copy) {
    memcpy(copy, answer->text ? answer->text : "", answer->len);
    copy[answer->len] = '\0';
    char *end = copy + answer->len + 1;
    errand->answer.detail = append(&end, answer->detail);
    errand->answer.code = append(&end, answer->code);
    errand->answer.message = append(&end, answer->message);
  }
  errand->letter.open = on_return;
  mp_crew_done(errand->crew, errand->worker);
  mp_crew_send(errand->crew, 0, &errand->letter);
}

/* ---- recall ---- */

static void on_recall_back(struct mp_letter *letter) {
  mp_errand_free(MP_CONTAINER_OF(letter, struct mp_errand, recall));
}

static void on_recall(struct mp_letter *letter) {
  struct mp_errand *errand = MP_CONTAINER_OF(letter, struct mp_errand, recall);
  if (!errand->answered) {
    errand->events->recall(errand);
    mp_errand_answer(errand, &(struct mp_invoke_answer){.ok = false});
  }
  errand->recall.open = on_recall_back;
  mp_crew_send(errand->crew, 0, &errand->recall);
}

void mp_errand_cancel(struct mp_errand *errand) {
  if (!move(errand, ERRAND_RECALLED)) return;
  errand->recall.open = on_recall;
  mp_crew_send(errand->crew, errand->worker, &errand->recall);
}

/* ---- what it is about ---- */

void *mp_errand_data(const struct mp_errand *errand) { return errand->data; }

struct mp_invoke_options *mp_errand_options(struct mp_errand *errand) {
  return &errand->options;
}

struct mp_generations *mp_errand_generations(const struct mp_errand *errand) {
  return mp_crew_generations(errand->crew, errand->worker);
}

void **mp_errand_work(struct mp_errand *errand) { return &errand->work; }
