#include "vault/archive.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "crypto/aead.h"
#include "crypto/base64url.h"
#include "crypto/random.h"
#include "vault/aad.h"
#include "vault/root_key_lines.h"

namespace postern::vault {
namespace {

constexpr std::string_view kLabel = "postern-archive-v1";
constexpr std::size_t kMostFirstLine = 100;
constexpr std::size_t kHeadBytes = 5;

Error no_archive() { return fail(ErrorCode::MalformedRequest, "this is no archive of Postern"); }
Error does_not_open() {
  return fail(ErrorCode::MalformedRequest,
              "the archive does not open: another passphrase, or it was altered or cut off");
}

Aad aad_of(std::string_view first_line, std::uint64_t number, bool last) {
  Aad aad(kLabel);
  aad.text(first_line).number(number).number(last ? 1 : 0);
  return aad;
}

std::array<std::byte, kHeadBytes> head_of(bool last, std::size_t size) {
  std::array<std::byte, kHeadBytes> head{std::byte{last}};
  for (std::size_t i = 0; i < 4; ++i) head[1 + i] = static_cast<std::byte>(size >> (24 - 8 * i));
  return head;
}

Result<std::string> first_line_of(std::istream& in) {
  std::string line;
  for (int next = in.get(); next != '\n'; next = in.get()) {
    if (!in || line.size() == kMostFirstLine) return no_archive();
    line.push_back(static_cast<char>(next));
  }
  return line;
}

bool fill(std::istream& in, std::span<std::byte> bytes) {
  return !!in.read(reinterpret_cast<char*>(bytes.data()),
                   static_cast<std::streamsize>(bytes.size()));
}

}  // namespace

Result<ArchiveWriter> ArchiveWriter::begin(std::ostream& out, ByteView passphrase,
                                           crypto::StretchCost cost) {
  if (passphrase.size() < kLeastPassphraseBytes) {
    return fail(ErrorCode::MalformedRequest, "the passphrase must have 16 bytes at least");
  }
  crypto::Salt salt{};
  crypto::random_bytes(salt);
  POSTERN_TRY(auto key, crypto::stretch(passphrase, salt, cost));
  auto line = std::string(kLabel) + ':' + std::to_string(cost.passes) + ':' +
              std::to_string(cost.memory_mib) + ':' + crypto::base64url(salt);
  out << line << '\n';
  return ArchiveWriter(out, std::move(line), Dek(std::move(key)));
}

Status ArchiveWriter::add(ByteView record, Place place) {
  if (record.size() > kMostRecordBytes) {
    return fail(ErrorCode::TooLarge, "a record is too large for an archive");
  }
  if (ended_) throw std::logic_error("a record after the last");
  ended_ = place == Place::Last;
  const auto box = crypto::seal(key_, record, aad_of(first_line_, number_++, ended_).bytes());
  const auto head = head_of(ended_, box.size());
  *out_ << as_text(head) << as_text(box);
  if (ended_) out_->flush();
  if (!*out_) return fail(ErrorCode::Unavailable, "the archive cannot be written");
  return {};
}

Result<ArchiveReader> ArchiveReader::begin(std::istream& in, ByteView passphrase) {
  POSTERN_TRY(auto line, first_line_of(in));
  const auto parts = root_key_lines::parts_of(line);
  if (parts.size() != 4 || parts[0] != kLabel) return no_archive();
  const auto passes = root_key_lines::number_in(parts[1]);
  const auto memory = root_key_lines::number_in(parts[2]);
  const auto bytes = crypto::base64url_decode(parts[3]);
  if (!passes || !memory || !bytes.ok() || bytes.value().size() != crypto::kSaltBytes) {
    return no_archive();
  }
  crypto::Salt salt{};
  std::copy(bytes.value().begin(), bytes.value().end(), salt.begin());
  POSTERN_TRY(auto key, crypto::stretch(passphrase, salt, {*passes, *memory}));
  return ArchiveReader(in, std::move(line), Dek(std::move(key)));
}

Result<ArchiveReader> ArchiveReader::again(std::istream& in) const {
  POSTERN_TRY(auto line, first_line_of(in));
  if (line != first_line_) return does_not_open();
  auto key = key_.expose([](ByteView bytes) { return Dek(SecureBuffer::copy_of(bytes)); });
  return ArchiveReader(in, std::move(line), std::move(key));
}

Result<std::optional<Plaintext>> ArchiveReader::next() {
  if (ended_) {
    if (in_->peek() == std::istream::traits_type::eof()) return std::optional<Plaintext>();
    return does_not_open();
  }
  std::array<std::byte, kHeadBytes> head{};
  if (!fill(*in_, head)) return does_not_open();
  std::size_t size = 0;
  for (std::size_t i = 1; i < kHeadBytes; ++i)
    size = size << 8 | std::to_integer<std::size_t>(head[i]);
  const bool last = head[0] == std::byte{1};
  if (head != head_of(last, size) || size > kMostRecordBytes + crypto::kSealOverhead) {
    return does_not_open();
  }
  Bytes box;
  // Not all at once: the length is believed only when the record opens.
  constexpr std::size_t kStep = 1024 * 1024;
  while (box.size() < size) {
    const auto had = box.size();
    box.resize(std::min(size, had + kStep));
    if (!fill(*in_, std::span(box).subspan(had))) return does_not_open();
  }
  auto record = crypto::open(key_, box, aad_of(first_line_, number_, last).bytes());
  if (!record.ok()) return does_not_open();
  ++number_;
  ended_ = last;
  return std::optional(Plaintext(std::move(record).value()));
}

}  // namespace postern::vault
