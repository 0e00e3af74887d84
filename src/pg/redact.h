/* redact.h: SQL texts as they may be shown: in the log, the history, on pages. Pure. */
#ifndef MP_REDACT_H
#define MP_REDACT_H

/* The statement without its values and comments, on one line: constants have become $n. Of a long
 * text, the beginning. For a text that is not SQL a remark is returned. malloc'd; NULL: no memory.
 */
char *mp_sql_redacted(const char *sql);

#endif
