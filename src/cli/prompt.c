#include "cli/prompt.h"

#include <fcntl.h>
#include <histedit.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "loop/loop.h"
#include "script/task.h"
#include "script/vm.h"

#define PROMPT_TYPE "moonpool.prompt"

enum { HISTORY_LINES = 1000, SHOWN_WORDS = 100, HANDLES = 4 };

enum prompt_state { IDLE, READING, CLOSED };

struct prompt {
  enum prompt_state state;
  EditLine *el; /* NULL: no terminal */
  History *history;
  char *history_path;
  uv_poll_t readable;
  uv_signal_t sigint, sigterm, resized;
  int open_handles;
  struct mp_sched *sched;
  struct mp_token reader, watcher; /* who waits for a line, and for SIGINT */
  bool watched;
  char *line;         /* the answer; NULL: `ending` says why */
  const char *ending; /* "end" or "interrupt" */
  char text[40];      /* in front of the line */
  char **words;       /* sorted */
  size_t word_count;
};

static struct prompt *prompt_of(EditLine *el) {
  void *data = NULL;
  el_get(el, EL_CLIENTDATA, &data);
  return data;
}

static char *text_of(EditLine *el) { return prompt_of(el)->text; }

static void drop_words(struct prompt *prompt) {
  for (size_t i = 0; i < prompt->word_count; i++) free(prompt->words[i]);
  free(prompt->words);
  prompt->words = NULL;
  prompt->word_count = 0;
}

/* ---- completion ---- */

static bool in_word(char ch) {
  return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
         (ch && strchr("_.:\\", ch));
}

static size_t common(const char *a, const char *b) {
  size_t n = 0;
  while (a[n] && a[n] == b[n]) n++;
  return n;
}

static void list_words(struct prompt *prompt, const char *word, size_t len) {
  size_t shown = 0;
  putchar('\n');
  for (size_t i = 0; i < prompt->word_count; i++)
    if (!strncmp(prompt->words[i], word, len) && ++shown <= SHOWN_WORDS)
      printf("%s  ", prompt->words[i]);
  if (shown > SHOWN_WORDS) printf("and %zu more", shown - SHOWN_WORDS);
  putchar('\n');
  fflush(stdout);
}

/* Inserts what all words have in common that begin as the one before the cursor; nothing more in
 * common: lists them. */
static unsigned char complete(EditLine *el, int ch) {
  struct prompt *prompt = prompt_of(el);
  const LineInfo *line = el_line(el);
  const char *from = line->cursor, *first = NULL;
  size_t shared = 0, found = 0;
  char rest[200];
  (void)ch;
  while (from > line->buffer && in_word(from[-1])) from--;
  size_t len = (size_t)(line->cursor - from);
  for (size_t i = 0; len && i < prompt->word_count; i++) {
    if (strncmp(prompt->words[i], from, len) != 0) continue;
    if (!found++) {
      first = prompt->words[i];
      shared = strlen(first);
    } else if (common(first, prompt->words[i]) < shared) {
      shared = common(first, prompt->words[i]);
    }
  }
  if (!found) return CC_REFRESH_BEEP;
  if (shared == len) {
    if (found == 1) return CC_NORM;
    list_words(prompt, from, len);
    return CC_REDISPLAY;
  }
  snprintf(rest, sizeof rest, "%.*s", (int)(shared - len), first + len);
  return el_insertstr(el, rest) ? CC_ERROR : CC_REFRESH;
}

/* ---- the end of a read ---- */

/* The task that reads goes on; takes the line. */
static void answer(struct prompt *prompt, char *line, const char *ending) {
  if (prompt->state != READING) {
    free(line);
    return;
  }
  uv_poll_stop(&prompt->readable);
  el_set(prompt->el, EL_UNBUFFERED, 0); /* the terminal as it was */
  prompt->state = IDLE;
  prompt->line = line;
  prompt->ending = ending;
  mp_wait_ready(prompt->sched, prompt->reader);
}

static void keep(struct prompt *prompt, const char *line) {
  HistEvent event;
  if (line[strspn(line, " \t\r\n")]) history(prompt->history, &event, H_ENTER, line);
}

/* One key at a time: what is typed ahead stays for the next read. */
static void on_readable(uv_poll_t *handle, int status, int events) {
  struct prompt *prompt = handle->data;
  int length = 0, waiting = 0;
  (void)events;
  if (status || ioctl(STDIN_FILENO, FIONREAD, &waiting) || !waiting) {
    answer(prompt, NULL, "end");
    return;
  }
  const char *text = el_gets(prompt->el, &length);
  if (!text || length <= 0) return;
  if (length == 1 && *text == ('D' & 0x1f)) {
    puts("");
    answer(prompt, NULL, "end");
  } else if (text[length - 1] == '\n' || text[length - 1] == '\r') {
    char *line = strndup(text, (size_t)length - 1);
    keep(prompt, text);
    answer(prompt, line, "end");
  }
}

static void on_sigint(uv_signal_t *handle, int number) {
  struct prompt *prompt = handle->data;
  (void)number;
  if (prompt->state == READING) {
    puts("");
    answer(prompt, NULL, "interrupt");
  } else if (prompt->watched) {
    prompt->watched = false;
    mp_wait_ready(prompt->sched, prompt->watcher);
  }
}

static void on_sigterm(uv_signal_t *handle, int number) {
  (void)number;
  answer(handle->data, NULL, "end");
}

static void on_resized(uv_signal_t *handle, int number) {
  struct prompt *prompt = handle->data;
  (void)number;
  el_resize(prompt->el);
}

/* ---- in Lua ---- */

static struct prompt *check(lua_State *L) {
  struct prompt *prompt = *(struct prompt **)luaL_checkudata(L, 1, PROMPT_TYPE);
  if (!prompt || prompt->state == CLOSED) luaL_error(L, "the prompt is closed");
  return prompt;
}

static int push_answer(lua_State *L, struct prompt *prompt) {
  if (!prompt->line) {
    lua_pushnil(L);
    lua_pushstring(L, prompt->ending);
    return 2;
  }
  lua_pushstring(L, prompt->line);
  free(prompt->line);
  prompt->line = NULL;
  return 1;
}

static int read_k(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  return push_answer(L, (struct prompt *)ctx);
}

/* The task was ended while it read. */
static void on_abandoned(void *data) { answer(data, NULL, "end"); }

static void take_words(lua_State *L, struct prompt *prompt) {
  drop_words(prompt);
  if (!lua_istable(L, 3)) return;
  size_t count = (size_t)lua_rawlen(L, 3);
  prompt->words = calloc(count ? count : 1, sizeof *prompt->words);
  for (size_t i = 0; prompt->words && i < count; i++) {
    lua_rawgeti(L, 3, (lua_Integer)i + 1);
    char *word = strdup(luaL_tolstring(L, -1, NULL));
    lua_pop(L, 2);
    if (word) prompt->words[prompt->word_count++] = word;
  }
}

static int read_plain(lua_State *L, struct prompt *prompt) {
  size_t size = 0;
  ssize_t length = getline(&prompt->line, &size, stdin);
  prompt->ending = "end";
  if (length < 0) {
    free(prompt->line);
    prompt->line = NULL;
  } else if (length && prompt->line[length - 1] == '\n') {
    prompt->line[length - 1] = '\0';
  }
  return push_answer(L, prompt);
}

static int prompt_read(lua_State *L) {
  struct prompt *prompt = check(L);
  snprintf(prompt->text, sizeof prompt->text, "%s", luaL_checkstring(L, 2));
  take_words(L, prompt);
  fflush(stdout);
  if (!prompt->el) return read_plain(L, prompt);
  mp_wait_check(L, "prompt:read");
  prompt->state = READING;
  el_set(prompt->el, EL_UNBUFFERED, 1); /* shows the text in front */
  uv_poll_start(&prompt->readable, UV_READABLE, on_readable);
  prompt->reader = mp_wait_begin(L, on_abandoned, prompt);
  return mp_wait_yield(L, (lua_KContext)prompt, read_k);
}

static void on_watcher_abandoned(void *data) { ((struct prompt *)data)->watched = false; }

static int interrupted_k(lua_State *L, int status, lua_KContext ctx) {
  struct prompt *prompt = (struct prompt *)ctx;
  (void)status;
  lua_pushboolean(L, prompt->state != CLOSED);
  return 1;
}

static int prompt_interrupted(lua_State *L) {
  struct prompt *prompt = check(L);
  mp_wait_check(L, "prompt:interrupted");
  prompt->watched = true;
  prompt->watcher = mp_wait_begin(L, on_watcher_abandoned, prompt);
  return mp_wait_yield(L, (lua_KContext)prompt, interrupted_k);
}

static void on_closed(uv_handle_t *handle) {
  struct prompt *prompt = handle->data;
  if (!--prompt->open_handles) free(prompt);
}

static void save_history(const struct prompt *prompt) {
  HistEvent event;
  if (!prompt->history_path) return;
  mode_t before = umask(077); /* a line may hold anything */
  history(prompt->history, &event, H_SAVE, prompt->history_path);
  umask(before);
}

static void end_terminal(struct prompt *prompt) {
  uv_handle_t *handles[HANDLES] = {(uv_handle_t *)&prompt->readable, (uv_handle_t *)&prompt->sigint,
                                   (uv_handle_t *)&prompt->sigterm,
                                   (uv_handle_t *)&prompt->resized};
  save_history(prompt);
  history_end(prompt->history);
  el_end(prompt->el);
  prompt->el = NULL;
  for (int i = 0; i < HANDLES; i++) uv_close(handles[i], on_closed);
}

/* Also __gc. The memory goes with the last handle. */
static int prompt_close(lua_State *L) {
  struct prompt **box = luaL_checkudata(L, 1, PROMPT_TYPE), *prompt = *box;
  if (!prompt) return 0;
  *box = NULL;
  answer(prompt, NULL, "end");
  prompt->state = CLOSED;
  if (prompt->watched) mp_wait_ready(prompt->sched, prompt->watcher);
  prompt->watched = false;
  drop_words(prompt);
  bool terminal = prompt->el;
  if (terminal) end_terminal(prompt);
  free(prompt->history_path);
  if (!terminal) free(prompt);
  return 0;
}

static bool start_terminal(struct prompt *prompt, uv_loop_t *uv) {
  HistEvent event;
  prompt->history = history_init();
  prompt->el = prompt->history ? el_init("moonpool", stdin, stdout, stderr) : NULL;
  if (!prompt->el) return false;
  history(prompt->history, &event, H_SETSIZE, HISTORY_LINES);
  history(prompt->history, &event, H_SETUNIQUE, 1);
  if (prompt->history_path) history(prompt->history, &event, H_LOAD, prompt->history_path);
  el_set(prompt->el, EL_CLIENTDATA, prompt);
  el_set(prompt->el, EL_PROMPT, text_of);
  el_set(prompt->el, EL_EDITOR, "emacs");
  el_set(prompt->el, EL_HIST, history, prompt->history);
  el_set(prompt->el, EL_ADDFN, "complete", "completes the word before the cursor", complete);
  el_set(prompt->el, EL_BIND, "^I", "complete", NULL);
  el_set(prompt->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
  /* libuv makes the descriptor non-blocking; it is the shell's as well, and libedit wants the rest
   * of a key's sequence. */
  int flags = fcntl(STDIN_FILENO, F_GETFL);
  uv_poll_init(uv, &prompt->readable, STDIN_FILENO);
  fcntl(STDIN_FILENO, F_SETFL, flags);
  uv_signal_init(uv, &prompt->sigint);
  uv_signal_init(uv, &prompt->sigterm);
  uv_signal_init(uv, &prompt->resized);
  prompt->readable.data = prompt->sigint.data = prompt->sigterm.data = prompt->resized.data =
      prompt;
  uv_signal_start(&prompt->sigint, on_sigint, SIGINT);
  uv_signal_start(&prompt->sigterm, on_sigterm, SIGTERM);
  uv_signal_start(&prompt->resized, on_resized, SIGWINCH);
  prompt->open_handles = HANDLES;
  return true;
}

static int open_prompt(lua_State *L) {
  struct prompt **box = lua_newuserdatauv(L, sizeof *box, 0);
  const char *path = luaL_optstring(L, 1, NULL);
  *box = NULL;
  luaL_setmetatable(L, PROMPT_TYPE);
  struct prompt *prompt = calloc(1, sizeof *prompt);
  if (!prompt) return luaL_error(L, "not enough memory");
  *box = prompt;
  prompt->sched = mp_task_sched(mp_task_of(L));
  prompt->history_path = path ? strdup(path) : NULL;
  if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) &&
      !start_terminal(prompt, mp_loop_uv(mp_sched_loop(prompt->sched))))
    return luaL_error(L, "the terminal cannot be used");
  return 1;
}

static int prompt_index(lua_State *L) {
  const char *name = luaL_checkstring(L, 2);
  if (strcmp(name, "is_terminal") != 0) {
    luaL_getmetafield(L, 1, name);
    return 1;
  }
  lua_pushboolean(L, check(L)->el != NULL);
  return 1;
}

int mp_open_prompt(lua_State *L) {
  static const luaL_Reg methods[] = {{"read", prompt_read},
                                     {"interrupted", prompt_interrupted},
                                     {"close", prompt_close},
                                     {"__close", prompt_close},
                                     {"__gc", prompt_close},
                                     {"__index", prompt_index},
                                     {NULL, NULL}};
  luaL_newmetatable(L, PROMPT_TYPE);
  luaL_setfuncs(L, methods, 0);
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushcfunction(L, open_prompt);
  lua_setfield(L, -2, "open");
  return 1;
}
