/* text_priv.h: what text.c has for insert.c. */
#ifndef MP_TEXT_PRIV_H
#define MP_TEXT_PRIV_H

#include "sql/text.h"

/* Leaves the box of the SQL string at `idx`, which keeps its text alive; NULL, and nothing is left:
 * it is long and has to be read first. */
struct mp_text *mp_text_push_box(lua_State *L, int idx, const char *what);
/* May a name begin with it, go on with it? Bytes above ASCII are letters to PostgreSQL. */
bool mp_text_ident_start(char c);
bool mp_text_ident_char(char c);

#endif
