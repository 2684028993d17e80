#include "vault/archive.h"

#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "support/code_of.h"

namespace postern::vault {
namespace {

using test::code_of;
using Place = ArchiveWriter::Place;

constexpr std::string_view kPassphrase = "correct horse battery staple";
constexpr crypto::StretchCost kCheap{2, 8};

std::string archive(const std::vector<std::string>& records) {
  std::ostringstream out;
  auto writer = ArchiveWriter::begin(out, as_bytes(kPassphrase), kCheap).value();
  for (std::size_t i = 0; i < records.size(); ++i) {
    EXPECT_TRUE(
        writer.add(as_bytes(records[i]), i + 1 == records.size() ? Place::Last : Place::Between)
            .ok());
  }
  return out.str();
}

/// All records, or the first error.
Result<std::vector<std::string>> read(const std::string& file,
                                      std::string_view passphrase = kPassphrase) {
  std::istringstream in(file);
  POSTERN_TRY(auto reader, ArchiveReader::begin(in, as_bytes(passphrase)));
  std::vector<std::string> records;
  for (;;) {
    POSTERN_TRY(const auto record, reader.next());
    if (!record) return records;
    records.push_back(record->expose([](ByteView bytes) { return std::string(as_text(bytes)); }));
  }
}

/// Where each record begins, and the end.
std::vector<std::size_t> places(const std::string& file) {
  std::vector<std::size_t> out{file.find('\n') + 1};
  while (out.back() < file.size()) {
    std::size_t size = 0;
    for (std::size_t i = 1; i <= 4; ++i) {
      size = size << 8 | static_cast<unsigned char>(file[out.back() + i]);
    }
    out.push_back(out.back() + 5 + size);
  }
  return out;
}

const std::vector<std::string> kRecords{"first", std::string("\0\n\xff", 3), "", "last"};

TEST(Archive, GivesBackWhatWasPutIn) {
  const auto file = archive(kRecords);
  EXPECT_EQ(read(file).value(), kRecords);
  EXPECT_EQ(file.find("first"), std::string::npos);
  EXPECT_EQ(file.rfind("postern-archive-v1:2:8:", 0), 0u);
  EXPECT_NE(file, archive(kRecords)) << "salt and nonces are fresh";
  const std::string large(3 * 1024 * 1024 + 1, 'x');
  EXPECT_EQ(read(archive({large})).value(), std::vector<std::string>{large});
}

TEST(Archive, OpensWithItsPassphraseAlone) {
  const auto file = archive(kRecords);
  EXPECT_EQ(code_of(read(file, "correct horse battery stapl")), ErrorCode::MalformedRequest);
  EXPECT_EQ(code_of(read(file, "")), ErrorCode::MalformedRequest);
  std::ostringstream out;
  EXPECT_EQ(code_of(ArchiveWriter::begin(out, as_bytes("fifteen bytes..."), kCheap)), std::nullopt);
  EXPECT_EQ(code_of(ArchiveWriter::begin(out, as_bytes("fifteen bytes.."), kCheap)),
            ErrorCode::MalformedRequest);
}

TEST(Archive, NoBitMayChange) {
  const auto file = archive({"a", "b"});
  for (std::size_t i = 0; i < file.size(); ++i) {
    auto altered = file;
    altered[i] = static_cast<char>(altered[i] ^ (1 << (i % 8)));
    EXPECT_FALSE(read(altered).ok()) << i;
  }
}

TEST(Archive, NoRecordMayGoMoveOrComeFromElsewhere) {
  const auto file = archive(kRecords);
  const auto other = archive(kRecords);
  const auto at = places(file);
  const auto record = [&](const std::string& of, std::size_t i) {
    return of.substr(at[i], at[i + 1] - at[i]);
  };
  const auto line = file.substr(0, at[0]);
  const auto first = record(file, 0), second = record(file, 1), third = record(file, 2),
             last = record(file, 3);
  ASSERT_TRUE(read(line + first + second + third + last).ok());
  for (const auto& altered :
       {line, line + first, line + first + second + third, line + first + second + last,
        line + second + first + third + last, line + first + first + second + third + last,
        line + first + second + third + last + last, line + first + second + third + last + "x",
        line + record(other, 0) + second + third + last,
        other.substr(0, at[0]) + first + second + third + last}) {
    EXPECT_EQ(code_of(read(altered)), ErrorCode::MalformedRequest);
  }
  for (std::size_t size = 0; size < file.size(); ++size) {
    EXPECT_FALSE(read(file.substr(0, size)).ok()) << size;
  }
}

TEST(Archive, ACostOutOfBoundsIsRefusedBeforeItIsPaid) {
  const auto file = archive({"a"});
  const auto with = [&](const std::string& cost) {
    return "postern-archive-v1:" + cost + file.substr(file.find(":2:8:") + 4);
  };
  ASSERT_TRUE(read(with("2:8")).ok());
  for (const auto* cost : {"1:8", "17:8", "2:7", "2:1025", "2:4294967296", "02:8", "2:08", "2",
                           ":8", "-2:8", "2:8:1"}) {
    EXPECT_EQ(code_of(read(with(cost))), ErrorCode::MalformedRequest) << cost;
  }
  for (const auto* none : {"", "\n", "postern-archive-v2:2:8:AAAAAAAAAAAAAAAAAAAAAA\n",
                           "postern-archive-v1:2:8:AAAA\n"}) {
    EXPECT_EQ(code_of(read(none)), ErrorCode::MalformedRequest) << none;
  }
  EXPECT_EQ(code_of(read(std::string(1000, 'x'))), ErrorCode::MalformedRequest);
}

TEST(Archive, IsReadTwiceWithOneKey) {
  const auto file = archive(kRecords);
  std::istringstream in(file), same(file), other(archive(kRecords)), none("x");
  const auto reader = ArchiveReader::begin(in, as_bytes(kPassphrase)).value();
  auto again = reader.again(same);
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(again.value().next().value().has_value());
  EXPECT_EQ(code_of(reader.again(other)), ErrorCode::MalformedRequest);
  EXPECT_EQ(code_of(reader.again(none)), ErrorCode::MalformedRequest);
}

TEST(Archive, ALengthIsNotBelieved) {
  const auto file = archive({"a"});
  auto altered = file.substr(0, file.find('\n') + 1);
  altered += std::string("\1\x04\0\0\0", 5) + "x";
  EXPECT_FALSE(read(altered).ok());
}

}  // namespace
}  // namespace postern::vault
