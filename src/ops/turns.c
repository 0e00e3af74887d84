#include "ops/turns.h"

#include "util/attr.h"

static void on_timer(struct mp_timer *timer) {
  mp_turns_serve(MP_CONTAINER_OF(timer, struct mp_turns, timer));
}

static void on_letter(struct mp_letter *letter) {
  struct mp_turns *turns = MP_CONTAINER_OF(letter, struct mp_turns, letter);
  mp_lane_woken(&turns->seat);
  mp_turns_serve(turns);
}

/* From another worker's thread. */
static void wake(struct mp_lane_seat *seat) {
  struct mp_turns *turns = MP_CONTAINER_OF(seat, struct mp_turns, seat);
  mp_mail_send(turns->mail, &turns->letter);
}

int mp_turns_init(struct mp_turns *turns, struct mp_lanes *lanes, struct mp_loop *loop, bool shared,
                  void (*on_turn)(struct mp_lane_pass *pass), struct mp_err *err) {
  *turns = (struct mp_turns){.loop = loop, .on_turn = on_turn, .letter = {.open = on_letter}};
  mp_lane_seat_init(&turns->seat, lanes, wake);
  mp_timer_init(&turns->timer, loop, on_timer);
  return shared ? mp_mail_open(&turns->mail, loop, err) : 0;
}

void mp_turns_fini(struct mp_turns *turns) {
  if (!turns->loop) return;
  mp_timer_stop(&turns->timer);
  mp_mail_close(turns->mail);
  turns->loop = NULL;
}

void mp_turns_serve(struct mp_turns *turns) {
  struct mp_lane_pass *pass;
  if (turns->serving) return; /* the call further out goes on */
  turns->serving = true;
  uint64_t now_ns, due_ns;
  bool more;
  do { /* a turn may let further ones come */
    more = false;
    now_ns = mp_turns_now(turns);
    due_ns = mp_lanes_tick(&turns->seat, now_ns);
    for (; (pass = mp_lane_next(&turns->seat)); more = true) turns->on_turn(pass);
  } while (more);
  turns->serving = false;
  if (due_ns == UINT64_MAX)
    mp_timer_stop(&turns->timer);
  else
    mp_timer_start(&turns->timer, due_ns > now_ns ? (due_ns - now_ns) / 1000000 + 1 : 0);
}
