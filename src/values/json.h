/* json.h: the Lua module "moonpool.json": strict reading and exact writing of JSON, for every
 * border (HTTP, command line, json columns).
 *
 * json_decode.c reads by yajl's callbacks, numbers as text. Refused: a byte order mark, duplicate
 * keys, bytes behind the value, invalid UTF-8, lone surrogates, control characters, more than
 * MP_JSON_DEPTH levels, texts longer than MP_JSON_MAX_BYTES. What may be read may be written: a
 * document (raw, below) that stands inside of an answer has that many levels of its own.
 * json_encode.c writes into a buffer of the caller.
 *
 * json_raw.c: texts that are JSON already.
 *
 * null is the light userdata NULL. [] and {} are kept apart by metatables ("marks"): arrays that
 * were read carry one. A raw mark says that the names inside are data (jsonb): they are never
 * respelled. */
#ifndef MP_JSON_H
#define MP_JSON_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#include "util/buf.h"
#include "util/err.h"

#define MP_JSON_DEPTH 64
#define MP_JSON_DEPTH_IN_ALL (2 * MP_JSON_DEPTH) /* of an answer with the documents in it */
#define MP_JSON_MAX_BYTES ((size_t)16 << 20)

enum {
  /* decode */
  MP_JSON_DECIMALS = 1u << 0, /* fraction, exponent or beyond int64: a decimal. Without: a float if
                                that loses nothing, else a decimal */
  MP_JSON_OWN = 1u << 9,      /* the host's own text of Lua values: its decimals leave as strings */
  MP_JSON_LAST_WINS = 1u << 7, /* of a name that comes twice, as in a json column; else refused */
  MP_JSON_RAW = 1u << 1,       /* mark all tables as raw (values of json and jsonb columns) */
  /* encode */
  MP_JSON_CAMEL = 1u << 2, /* customer_id -> customerId, but not inside raw tables */
  /* decimals as strings, as at the border, but those that were read from JSON; else as numbers */
  MP_JSON_DECIMAL_STRINGS = 1u << 3,
  MP_JSON_PRETTY = 1u << 4, /* two blanks per level, keys sorted */
  MP_JSON_SORTED = 1u << 5,
  MP_JSON_NO_NUL = 1u << 8,   /* U+0000 is refused: jsonb cannot hold it */
  MP_JSON_UNREAD = 1u << 10,  /* for a row that was not answered yet: MP_JSON_UNREAD_MARK */
  MP_JSON_SPECIALS = 1u << 6, /* NaN and infinite floats as strings: a column has them on purpose */
};

#define MP_JSON_UNREAD_MARK 1 /* a byte that no JSON text has */

enum mp_json_mark {
  MP_JSON_ARRAY,     /* an array, even if empty */
  MP_JSON_OBJECT,    /* an object whose own keys are data: not respelled; its values' keys are */
  MP_JSON_RAW_ARRAY, /* as above, and nothing inside is respelled */
  MP_JSON_RAW_OBJECT,
  MP_JSON_MARKS
};

/* A table or userdata writes itself if its metatable has the field "__json", a light userdata that
 * is such a function: it appends one JSON value for the value at `idx` and leaves the stack as it
 * was. It may raise. `flags` are the encoder's (CAMEL is off inside raw values). Cast by
 * mp_json_hook_push(). */
typedef void (*mp_json_hook)(lua_State *L, int idx, struct mp_buf *out, unsigned flags);
void mp_json_hook_push(lua_State *L, mp_json_hook hook); /* pushes the light userdata */

/* Pushes the module's table. */
int mp_open_json(lua_State *L);

/* json_raw.c: JSON text that is written as it stands. Replaces the text on top by a value whose
 * JSON it is; it is not read before. [-1, +1] */
void mp_json_text_wrap(lua_State *L);
int mp_json_raw(lua_State *L);       /* json.raw(text): the same, read before */
void mp_json_raw_open(lua_State *L); /* for mp_json_host_open */

/* Adds json_text and json_answer to the host's table, on top. [-0, +0] */
void mp_json_host_open(lua_State *L);

/* Pushes the value and returns 0; or returns -code with "line 2, column 7: ..." (MP_EINVAL,
 * MP_ENOMEM), pushing nothing. Never raises, and needs no protected caller. `max_bytes` 0:
 * MP_JSON_MAX_BYTES. */
int mp_json_decode(lua_State *L, const char *text, size_t len, unsigned flags,
                   struct mp_err *err) MP_MUST_CHECK;
int mp_json_decode_max(lua_State *L, const char *text, size_t len, size_t max_bytes, unsigned flags,
                       struct mp_err *err) MP_MUST_CHECK;

/* The same for a C function that Lua calls with the text at 1: `return mp_json_read(...)`. Gives
 * way while it reads, and raises what is wrong; too many values are an error object,
 * CONTENT_TOO_LARGE. */
struct mp_json_limits {
  size_t bytes, values; /* 0: MP_JSON_MAX_BYTES; any number */
};
int mp_json_read(lua_State *L, const struct mp_json_limits *limits, unsigned flags);
/* The same for a text that something on the stack keeps; continues with k, the value on top. */
int mp_json_read_column(lua_State *L, const char *column, const char *text, size_t len,
                        unsigned flags, lua_KContext ctx, lua_KFunction k);

/* Appends the value at `idx`. Raises a Lua error with the value's path ("$.items[3].x: a function
 * cannot be JSON"); `out` then holds half a text and must be owned by a userdata (mp_json_buf_new),
 * or by a frame outside of the protected call. False if `out` failed (limit or memory). */
bool mp_json_encode(lua_State *L, int idx, struct mp_buf *out, unsigned flags) MP_MUST_CHECK;

/* The same for a C function that scripts call: gives way between two values, then continues with k,
 * whose ctx is `out`. k asks out->failed. The writer, and what owns `out`, are on the stack. */
struct mp_json_writer;
struct mp_json_writer *mp_json_writer_new(lua_State *L); /* a userdata; one write at a time */
int mp_json_write(lua_State *L, struct mp_json_writer *writer, int idx, struct mp_buf *out,
                  unsigned flags, lua_KFunction k);

/* json_number.c: pushes the number whose text it is; false: a decimal cannot have so many digits.
 */
bool mp_json_push_number(lua_State *L, const char *text, size_t len, unsigned flags);

/* Pieces for hooks: a string with its quotes (raises if it is no UTF-8), an object's key, a
 * double. */
void mp_json_add_string(lua_State *L, struct mp_buf *out, const char *text, size_t len);
void mp_json_add_key(lua_State *L, struct mp_buf *out, const char *key, size_t len, unsigned flags);
/* The shortest text that reads as the same double, always with a point or an exponent, in at most
 * 32 bytes without terminator; 0 for NaN and infinities, which are no JSON. */
size_t mp_json_format_number(double value, char *out);

/* Pushes a userdata that owns the buffer it returns; freed when collected, or when closed
 * (__close). */
struct mp_buf *mp_json_buf_new(lua_State *L, size_t max);

/* Marks the table at the top of the stack. */
void mp_json_set_mark(lua_State *L, enum mp_json_mark mark);
void mp_json_push_mark(lua_State *L, enum mp_json_mark mark); /* pushes the metatable itself */

/* customer_id <-> customerId. Identifiers only: words of [a-z0-9], first a letter, joined by single
 * underscores. An underscore before a letter goes and the letter becomes a capital; one before a
 * digit stays (line_2 <-> line_2, line2 <-> line2), so the way back is always the same name. Any
 * other text is copied as it is. `out` has room for 2 * len bytes; returns the length. */
size_t mp_json_camel(const char *name, size_t len, char *out);
size_t mp_json_snake(const char *name, size_t len, char *out);

#endif
