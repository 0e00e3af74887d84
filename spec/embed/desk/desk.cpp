// desk.cpp: moonpool in a C++ program, with a loop of its own. desk_cpp APP URL DEAL
#include <moonpool.h>

#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

class Desk {
 public:
  Desk(const char *app, const char *url) {
    moonpool_options options;
    moonpool_error error;
    moonpool_options_init(&options);
    options.app_dir = app;
    options.database_url = url;
    moonpool *mp = nullptr;
    if (moonpool_open(&mp, &options, &error)) throw std::runtime_error(error.message);
    mp_.reset(mp);
    if (moonpool_ready_wait(mp, &error)) throw std::runtime_error(error.message);
  }

  std::string call(const char *operation, const std::string &input) {
    moonpool_request request;
    moonpool_error error;
    const moonpool_answer *answer = nullptr;
    moonpool_request_init(&request);
    request.operation = operation;
    request.input = input.data();
    request.input_len = input.size();
    if (moonpool_call_wait(mp_.get(), &request, &answer, &error))
      throw std::runtime_error(error.message);
    if (!answer->ok) throw std::runtime_error(answer->message);
    return std::string(answer->json, answer->json_len);
  }

  moonpool *get() { return mp_.get(); }

 private:
  struct Close {
    void operator()(moonpool *mp) const { moonpool_close_wait(mp); }
  };
  std::unique_ptr<moonpool, Close> mp_;
};

}  // namespace

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  Desk desk(argv[1], argv[2]);
  if (desk.call("create_deal", argv[3]).find("\"deal\":{") == std::string::npos) return 1;
  try {
    desk.call("no_such_operation", "{}");
    return 1;
  } catch (const std::runtime_error &fault) {
    std::cout << fault.what() << "\n";
  }

  // Several at a time: the callbacks come from moonpool_run_once.
  std::vector<int> statuses;
  moonpool_request request;
  moonpool_error error;
  moonpool_request_init(&request);
  request.operation = "create_deal";
  request.input = argv[3];
  auto note = [](moonpool *, const moonpool_answer *answer, void *data) {
    static_cast<std::vector<int> *>(data)->push_back(answer->status);
  };
  for (int i = 0; i < 3; i++)
    if (moonpool_call(desk.get(), &request, note, &statuses, nullptr, &error)) return 1;
  while (statuses.size() < 3) moonpool_run_once(desk.get(), 1);
  for (int status : statuses)
    if (status != 200) return 1;
  return 0;
}
