/* pattern.c: find, match, gmatch and gsub: Lua's patterns with the same results and messages, by a
 * matcher that counts its steps. Lua's own cannot be interrupted: a pattern of twenty characters
 * can keep it for hours. */
#include "script/pattern.h"

#include <ctype.h>
#include <lauxlib.h>
#include <limits.h>
#include <string.h>

#include "script/task.h"

enum {
  MAX_CAPTURES = 32,
  MAX_DEPTH = 200,
  POLL_STEPS = 1 << 14, /* between two looks at the clock */
  POSITION = -2,        /* length of a capture "()" */
  OPEN = -1,            /* of one whose end is not reached yet */
};

struct matcher {
  lua_State *L;
  const char *subject, *subject_end, *pattern_end;
  unsigned steps; /* since the last look at the clock */
  int depth, captures;
  struct {
    const char *start;
    ptrdiff_t len;
  } capture[MAX_CAPTURES];
};

static void step(struct matcher *m) {
  if (++m->steps < POLL_STEPS) return;
  m->steps = 0;
  mp_task_checkpoint(m->L, "the pattern takes too long to match");
}

/* ---- one character ---- */

/* The end of the item at p: a character, a class or a set. */
static const char *item_end(struct matcher *m, const char *p) {
  char first = *p++;
  if (first == '%') {
    if (p == m->pattern_end) luaL_error(m->L, "malformed pattern (ends with '%%')");
    return p + 1;
  }
  if (first != '[') return p;
  if (p < m->pattern_end && *p == '^') p++;
  do { /* a ']' in the first place stands for itself */
    if (p == m->pattern_end) luaL_error(m->L, "malformed pattern (missing ']')");
    if (*p++ == '%') {
      if (p == m->pattern_end) luaL_error(m->L, "malformed pattern (missing ']')");
      p++;
    }
  } while (p == m->pattern_end || *p != ']');
  return p + 1;
}

static bool in_class(int c, int class) {
  bool in;
  switch (tolower(class)) {
    case 'a': in = isalpha(c); break;
    case 'c': in = iscntrl(c); break;
    case 'd': in = isdigit(c); break;
    case 'g': in = isgraph(c); break;
    case 'l': in = islower(c); break;
    case 'p': in = ispunct(c); break;
    case 's': in = isspace(c); break;
    case 'u': in = isupper(c); break;
    case 'w': in = isalnum(c); break;
    case 'x': in = isxdigit(c); break;
    case 'z': in = c == 0; break;
    default: return class == c; /* an escaped character */
  }
  return isupper(class) ? !in : in;
}

/* Is c in the set from '[' to `last`, its ']'? */
static bool in_set(int c, const char *p, const char *last) {
  bool yes = true;
  if (*++p == '^') yes = false, p++;
  for (; p < last; p++) {
    if (*p == '%') {
      if (in_class(c, (unsigned char)*++p)) return yes;
    } else if (p[1] == '-' && p + 2 < last) {
      if ((unsigned char)*p <= c && c <= (unsigned char)p[2]) return yes;
      p += 2;
    } else if ((unsigned char)*p == c) {
      return yes;
    }
  }
  return !yes;
}

/* Does the item from p to `end` take the character c? */
static bool takes(int c, const char *p, const char *end) {
  switch (*p) {
    case '.': return true;
    case '%': return in_class(c, (unsigned char)p[1]);
    case '[': return in_set(c, p, end - 1);
    default: return (unsigned char)*p == c;
  }
}

static bool takes_at(struct matcher *m, const char *s, const char *p, const char *end) {
  return s < m->subject_end && takes((unsigned char)*s, p, end);
}

/* ---- the rest of the pattern; all give the end of the match, or NULL ---- */

static const char *match(struct matcher *m, const char *s, const char *p);

static const char *match_balanced(struct matcher *m, const char *s, const char *p) {
  if (p + 1 >= m->pattern_end) luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
  if (s == m->subject_end || *s != p[0]) return NULL;
  size_t level = 1;
  while (++s < m->subject_end) {
    step(m);
    if (*s == p[1]) {
      if (--level == 0) return s + 1;
    } else if (*s == p[0]) {
      level++;
    }
  }
  return NULL;
}

static const char *match_most(struct matcher *m, const char *s, const char *p, const char *end) {
  ptrdiff_t n = 0;
  for (; takes_at(m, s + n, p, end); n++) step(m);
  for (; n >= 0; n--) {
    const char *found = match(m, s + n, end + 1);
    if (found) return found;
  }
  return NULL;
}

static const char *match_least(struct matcher *m, const char *s, const char *p, const char *end) {
  for (;; s++) {
    const char *found = match(m, s, end + 1);
    if (found) return found;
    if (!takes_at(m, s, p, end)) return NULL;
  }
}

static const char *open_capture(struct matcher *m, const char *s, const char *p, ptrdiff_t len) {
  if (m->captures >= MAX_CAPTURES) luaL_error(m->L, "too many captures");
  m->capture[m->captures].start = s;
  m->capture[m->captures++].len = len;
  const char *found = match(m, s, p);
  if (!found) m->captures--;
  return found;
}

static const char *close_capture(struct matcher *m, const char *s, const char *p) {
  int i = m->captures - 1;
  while (i >= 0 && m->capture[i].len != OPEN) i--;
  if (i < 0) luaL_error(m->L, "invalid pattern capture");
  m->capture[i].len = s - m->capture[i].start;
  const char *found = match(m, s, p);
  if (!found) m->capture[i].len = OPEN;
  return found;
}

static const char *match_again(struct matcher *m, const char *s, int digit) {
  int i = digit - '1';
  if (i < 0 || i >= m->captures || m->capture[i].len == OPEN)
    luaL_error(m->L, "invalid capture index %%%d", i + 1);
  if (m->capture[i].len == POSITION) return NULL;
  size_t len = (size_t)m->capture[i].len;
  if ((size_t)(m->subject_end - s) < len || memcmp(m->capture[i].start, s, len) != 0) return NULL;
  return s + len;
}

/* %f: the border between a character outside of the set and one inside. */
static bool at_frontier(struct matcher *m, const char *s, const char *set, const char *end) {
  int before = s == m->subject ? '\0' : (unsigned char)s[-1];
  int here = s == m->subject_end ? '\0' : (unsigned char)*s;
  return !in_set(before, set, end - 1) && in_set(here, set, end - 1);
}

/* A sequence of items is a loop; only an item that may need to backtrack is a call. */
static const char *match_items(struct matcher *m, const char *s, const char *p) {
  while (p != m->pattern_end) {
    step(m);
    if (*p == '(') {
      bool position = p + 1 < m->pattern_end && p[1] == ')';
      return position ? open_capture(m, s, p + 2, POSITION) : open_capture(m, s, p + 1, OPEN);
    }
    if (*p == ')') return close_capture(m, s, p + 1);
    if (*p == '$' && p + 1 == m->pattern_end) return s == m->subject_end ? s : NULL;
    char escaped = *p == '%' && p + 1 < m->pattern_end ? p[1] : '\0';
    if (escaped == 'b') {
      s = match_balanced(m, s, p + 2);
      p += 4;
    } else if (escaped == 'f') {
      p += 2;
      if (p == m->pattern_end || *p != '[') luaL_error(m->L, "missing '[' after '%%f' in pattern");
      const char *end = item_end(m, p);
      if (!at_frontier(m, s, p, end)) return NULL;
      p = end;
    } else if (isdigit((unsigned char)escaped)) {
      s = match_again(m, s, escaped);
      p += 2;
    } else {
      const char *end = item_end(m, p), *found;
      switch (end < m->pattern_end ? *end : '\0') {
        case '*': return match_most(m, s, p, end);
        case '+': return takes_at(m, s, p, end) ? match_most(m, s + 1, p, end) : NULL;
        case '-': return match_least(m, s, p, end);
        case '?':
          if (takes_at(m, s, p, end) && (found = match(m, s + 1, end + 1))) return found;
          p = end + 1;
          break;
        default:
          if (!takes_at(m, s, p, end)) return NULL;
          s++;
          p = end;
      }
    }
    if (!s) return NULL;
  }
  return s;
}

static const char *match(struct matcher *m, const char *s, const char *p) {
  if (m->depth++ == MAX_DEPTH) luaL_error(m->L, "pattern too complex");
  const char *found = match_items(m, s, p);
  m->depth--;
  return found;
}

static const char *match_from(struct matcher *m, const char *s, const char *p) {
  m->captures = m->depth = 0;
  return match(m, s, p);
}

/* ---- captures ---- */

/* Where capture i lies (without captures, the first is the whole match), or POSITION. */
static ptrdiff_t capture_at(struct matcher *m, int i, const char *s, const char *end,
                            const char **start) {
  if (i >= m->captures && i != 0) luaL_error(m->L, "invalid capture index %%%d", i + 1);
  *start = i < m->captures ? m->capture[i].start : s;
  ptrdiff_t len = i < m->captures ? m->capture[i].len : end - s;
  if (len == OPEN) luaL_error(m->L, "unfinished capture");
  return len;
}

static void push_capture(struct matcher *m, int i, const char *s, const char *end) {
  const char *start;
  ptrdiff_t len = capture_at(m, i, s, end, &start);
  if (len == POSITION) {
    lua_pushinteger(m->L, start - m->subject + 1);
  } else {
    lua_pushlstring(m->L, start, (size_t)len);
  }
}

/* `s` NULL: no whole match where there are no captures. */
static int push_captures(struct matcher *m, const char *s, const char *end) {
  int n = m->captures == 0 && s ? 1 : m->captures;
  luaL_checkstack(m->L, n, "too many captures");
  for (int i = 0; i < n; i++) push_capture(m, i, s, end);
  return n;
}

/* ---- find, match ---- */

static struct matcher prepare(lua_State *L, int subject, int pattern, const char **p) {
  size_t subject_len, pattern_len;
  const char *s = luaL_checklstring(L, subject, &subject_len);
  *p = luaL_checklstring(L, pattern, &pattern_len);
  struct matcher m;
  m.L = L;
  m.subject = s;
  m.subject_end = s + subject_len;
  m.pattern_end = *p + pattern_len;
  m.steps = 0;
  return m;
}

/* Where to begin, from 0; past the end: len + 1. */
static size_t start_at(lua_State *L, int idx, size_t len) {
  lua_Integer at = luaL_optinteger(L, idx, 1);
  if (at > 0) return (size_t)at - 1 > len ? len + 1 : (size_t)at - 1;
  if (at == 0 || at < -(lua_Integer)len) return 0;
  return len - (size_t)-at;
}

static bool has_specials(const char *p, const char *end) {
  for (; p < end; p += strlen(p) + 1) /* it may have NULs in it */
    if (strpbrk(p, "^$*+?.([%-")) return true;
  return false;
}

static int find_or_match(lua_State *L, bool find) {
  const char *p;
  struct matcher m = prepare(L, 1, 2, &p);
  size_t start = start_at(L, 3, (size_t)(m.subject_end - m.subject));
  const char *s = m.subject + start;
  if (s > m.subject_end) {
    luaL_pushfail(L);
    return 1;
  }
  size_t len = (size_t)(m.pattern_end - p);
  if (find && (lua_toboolean(L, 4) || !has_specials(p, m.pattern_end))) {
    const char *found = memmem(s, (size_t)(m.subject_end - s), p, len);
    if (!found) {
      luaL_pushfail(L);
      return 1;
    }
    lua_pushinteger(L, found - m.subject + 1);
    lua_pushinteger(L, found - m.subject + (lua_Integer)len);
    return 2;
  }
  bool anchored = len && *p == '^';
  if (anchored) p++;
  do {
    const char *end = match_from(&m, s, p);
    if (!end) continue;
    if (!find) return push_captures(&m, s, end);
    lua_pushinteger(L, s - m.subject + 1);
    lua_pushinteger(L, end - m.subject);
    return push_captures(&m, NULL, NULL) + 2;
  } while (s++ < m.subject_end && !anchored);
  luaL_pushfail(L);
  return 1;
}

static int str_find(lua_State *L) { return find_or_match(L, true); }
static int str_match(lua_State *L) { return find_or_match(L, false); }

/* ---- gmatch ---- */

/* Upvalues: subject, pattern, where to go on, where the last match ended (or -1). */
static int gmatch_next(lua_State *L) {
  const char *p;
  struct matcher m = prepare(L, lua_upvalueindex(1), lua_upvalueindex(2), &p);
  const char *s = m.subject + lua_tointeger(L, lua_upvalueindex(3));
  lua_Integer last = lua_tointeger(L, lua_upvalueindex(4));
  for (; s <= m.subject_end; s++) {
    const char *end = match_from(&m, s, p);
    if (!end || end - m.subject == last) continue;
    lua_pushinteger(L, end - m.subject);
    lua_pushvalue(L, -1);
    lua_replace(L, lua_upvalueindex(3));
    lua_replace(L, lua_upvalueindex(4));
    return push_captures(&m, s, end);
  }
  return 0;
}

static int str_gmatch(lua_State *L) {
  size_t len;
  luaL_checklstring(L, 1, &len);
  luaL_checkstring(L, 2);
  size_t start = start_at(L, 3, len);
  lua_settop(L, 2);
  lua_pushinteger(L, (lua_Integer)start);
  lua_pushinteger(L, -1);
  lua_pushcclosure(L, gmatch_next, 4);
  return 1;
}

/* ---- gsub ---- */

static void add_text(struct matcher *m, luaL_Buffer *b, const char *s, const char *end) {
  size_t len;
  const char *text = lua_tolstring(m->L, 3, &len), *stop = text + len, *mark;
  while ((mark = memchr(text, '%', (size_t)(stop - text)))) {
    luaL_addlstring(b, text, (size_t)(mark - text));
    char c = mark + 1 < stop ? mark[1] : '\0';
    if (c == '%' && mark + 1 < stop) {
      luaL_addchar(b, '%');
    } else if (c == '0') {
      luaL_addlstring(b, s, (size_t)(end - s));
    } else if (isdigit((unsigned char)c)) {
      const char *start;
      ptrdiff_t len_of = capture_at(m, c - '1', s, end, &start);
      if (len_of == POSITION) {
        lua_pushinteger(m->L, start - m->subject + 1);
        luaL_addvalue(b);
      } else {
        luaL_addlstring(b, start, (size_t)len_of);
      }
    } else {
      luaL_error(m->L, "invalid use of '%%' in replacement string");
    }
    text = mark + 2;
  }
  luaL_addlstring(b, text, (size_t)(stop - text));
}

/* False: the match stays as it was. */
static bool add_value(struct matcher *m, luaL_Buffer *b, const char *s, const char *end, int type) {
  lua_State *L = m->L;
  if (type == LUA_TFUNCTION) {
    lua_pushvalue(L, 3);
    lua_call(L, push_captures(m, s, end), 1);
  } else if (type == LUA_TTABLE) {
    push_capture(m, 0, s, end);
    lua_gettable(L, 3);
  } else {
    add_text(m, b, s, end);
    return true;
  }
  if (!lua_toboolean(L, -1)) {
    lua_pop(L, 1);
    luaL_addlstring(b, s, (size_t)(end - s));
    return false;
  }
  if (!lua_isstring(L, -1)) luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
  luaL_addvalue(b);
  return true;
}

static int str_gsub(lua_State *L) {
  const char *p, *last = NULL;
  struct matcher m = prepare(L, 1, 2, &p);
  int type = lua_type(L, 3);
  const char *s = m.subject;
  lua_Integer most = luaL_optinteger(L, 4, m.subject_end - s + 1), count = 0;
  luaL_argexpected(
      L, type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION || type == LUA_TTABLE,
      3, "string/function/table");
  bool anchored = p < m.pattern_end && *p == '^', changed = false;
  if (anchored) p++;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  while (count < most) {
    const char *end = match_from(&m, s, p);
    if (end && end != last) {
      count++;
      changed |= add_value(&m, &b, s, end, type);
      s = last = end;
    } else if (s < m.subject_end) {
      /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): it is before the end */
      luaL_addchar(&b, *s++);
    } else {
      break;
    }
    if (anchored) break;
  }
  if (changed) {
    luaL_addlstring(&b, s, (size_t)(m.subject_end - s));
    luaL_pushresult(&b);
  } else {
    lua_pushvalue(L, 1);
  }
  lua_pushinteger(L, count);
  return 2;
}

void mp_pattern_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"find", str_find},
                                       {"match", str_match},
                                       {"gmatch", str_gmatch},
                                       {"gsub", str_gsub},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
