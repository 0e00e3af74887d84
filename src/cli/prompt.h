/* prompt.h: lines that a person types, with editing, history and completion (libedit), for the Lua
 * module "moonpool.prompt". While a line is awaited the loop runs on: connections are looked after,
 * and tasks go on.
 *
 *   IDLE --read--> READING --line, end or interrupt--> IDLE       CLOSED: the terminal is as before
 *
 * Without a terminal lines are read from stdin as they are; that blocks.
 *
 * open(history) -> prompt    `history`: a file, or nil
 *   prompt.is_terminal
 *   prompt:read(text, words) -> line | nil, "end" | "interrupt"    suspends; `words`: what can be
 *                                                                completed
 *   prompt:interrupted()     suspends until SIGINT comes while no line is read; nil when closed
 *   prompt:close() */
#ifndef MP_PROMPT_H
#define MP_PROMPT_H

#include <lua.h>

int mp_open_prompt(lua_State *L);

#endif
