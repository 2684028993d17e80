#include "http/message.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace postern::http {
namespace {

static_assert(!std::is_copy_constructible_v<Request>);
static_assert(!std::is_copy_constructible_v<Reply>);
static_assert(!std::is_copy_constructible_v<Responder>);

TEST(Request, HeaderNamesIgnoreCaseAndRepeatsAreNoAnswer) {
  Request request;
  request.headers = {{"Content-Type", "a"}, {"X-Two", "1"}, {"x-two", "2"}};
  EXPECT_EQ(request.header("content-type"), "a");
  EXPECT_EQ(request.header("X-TWO"), std::nullopt);
  EXPECT_EQ(request.count("X-Two"), 2u);
  EXPECT_EQ(request.header("X-None"), std::nullopt);
  EXPECT_EQ(request.count("X-None"), 0u);
}

TEST(Reply, HeaderThatCouldSplitTheResponseIsABug) {
  Reply reply;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string value = std::string("a") + static_cast<char>(byte) + "b";
    const bool allowed = (byte >= 0x20 && byte != 0x7f) || byte == '\t';
    if (allowed) {
      EXPECT_NO_THROW(reply.set_header("X-Value", value)) << byte;
    } else {
      EXPECT_THROW(reply.set_header("X-Value", value), std::logic_error) << byte;
    }
  }
  for (const std::string_view name : {"", "A B", "A:", "A\r\nB", "\xc3\xa9"}) {
    EXPECT_THROW(reply.set_header(name, "x"), std::logic_error) << name;
  }
  EXPECT_THROW(reply.set_header(std::string_view("A\0", 2), "x"), std::logic_error);
}

TEST(Reply, FramingBelongsToTheServer) {
  Reply reply;
  for (const auto* name :
       {"Content-Length", "transfer-encoding", "Connection", "DATE", "X-Request-Id"}) {
    EXPECT_THROW(reply.set_header(name, "1"), std::logic_error) << name;
  }
}

TEST(Reply, SettingAHeaderAgainReplacesIt) {
  Reply reply;
  reply.set_header("ETag", "\"1\"").set_header("etag", "\"2\"");
  ASSERT_EQ(reply.headers().size(), 1u);
  EXPECT_EQ(reply.header("ETAG"), "\"2\"");
}

TEST(Reply, NoStoreSetsBothHeaders) {
  auto reply = Reply::json(200, "{}");
  reply.no_store();
  EXPECT_EQ(reply.header("Cache-Control"), "no-store");
  EXPECT_EQ(reply.header("Pragma"), "no-cache");
  EXPECT_EQ(reply.header("Content-Type"), "application/json");
}

struct Recorder final : Responder::Sink {
  explicit Recorder(std::vector<int>& target) : statuses(target) {}
  void deliver(Reply reply) noexcept override { statuses.push_back(reply.status()); }
  std::vector<int>& statuses;
};

TEST(Responder, AnswersOnceAndAnUnansweredOneIsAFault) {
  std::vector<int> statuses;
  {
    Responder responder(std::make_unique<Recorder>(statuses));
    responder.send(Reply(204));
    responder.send(Reply(200));
  }
  { const Responder dropped(std::make_unique<Recorder>(statuses)); }
  {
    Responder first(std::make_unique<Recorder>(statuses));
    Responder second(std::move(first));
    second.send(Reply(201));
  }
  EXPECT_EQ(statuses, (std::vector<int>{204, 500, 201}));
}

}  // namespace
}  // namespace postern::http
