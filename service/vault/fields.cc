// 0x01 || u32 number of fields || for each, in order of name:
//   u32 length || name || u32 length || value          (u32: big-endian)
#include "vault/fields.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "core/byte_reader.h"

namespace postern::vault {
namespace {

constexpr std::byte kFormatVersion{1};
constexpr std::size_t kMaxFields = 32;
constexpr std::size_t kMaxNameBytes = 64;
constexpr std::size_t kMaxValueBytes = 64 * 1024;
constexpr std::size_t kMaxTotalBytes = 256 * 1024;

bool valid_name(std::string_view name) {
  const auto letter = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  };
  return !name.empty() && name.size() <= kMaxNameBytes && letter(name.front()) &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

class Writer {
 public:
  explicit Writer(std::span<std::byte> out) : at_(out.data()) {}
  void byte(std::byte value) { *at_++ = value; }
  void number(std::size_t value) {
    for (const int shift : {24, 16, 8, 0}) byte(static_cast<std::byte>(value >> shift & 0xFF));
  }
  void part(ByteView bytes) {
    number(bytes.size());
    if (!bytes.empty()) std::memcpy(at_, bytes.data(), bytes.size());
    at_ += bytes.size();
  }

 private:
  std::byte* at_;
};

Error malformed() { return fail(ErrorCode::Internal, "the fields are malformed"); }

}  // namespace

Status validate_fields(const Fields& fields) {
  if (fields.empty()) return fail(ErrorCode::MalformedRequest, "a credential has 1 to 32 fields");
  if (fields.size() > kMaxFields) {
    return fail(ErrorCode::TooLarge, "a credential has 1 to 32 fields");
  }
  std::size_t total = 0;
  for (const auto& [name, value] : fields) {
    if (!valid_name(name)) {
      return fail(ErrorCode::MalformedRequest,
                  "a field name is 1 to 64 letters, digits or underscores, not starting with a "
                  "digit");
    }
    if (value.size() > kMaxValueBytes) {
      return fail(ErrorCode::TooLarge, "a field value has at most 64 KiB");
    }
    total += value.size();
  }
  if (total > kMaxTotalBytes) {
    return fail(ErrorCode::TooLarge, "the values of a credential have at most 256 KiB in all");
  }
  return {};
}

SecureBuffer encode_fields(const Fields& fields) {
  std::size_t size = 1 + 4;
  for (const auto& [name, value] : fields) size += 4 + name.size() + 4 + value.size();
  SecureBuffer encoded(size);
  Writer writer(encoded.writable());
  writer.byte(kFormatVersion);
  writer.number(fields.size());
  for (const auto& [name, value] : fields) {
    writer.part(as_bytes(name));
    value.expose([&](ByteView bytes) { writer.part(bytes); });
  }
  return encoded;
}

Result<Fields> decode_fields(ByteView plaintext) {
  ByteReader reader(plaintext);
  const auto version = reader.take(1);
  const auto count = reader.number();
  if (!reader.ok() || version.front() != kFormatVersion || count == 0 || count > kMaxFields) {
    return malformed();
  }
  Fields fields;
  for (std::size_t i = 0; i < count; ++i) {
    const auto name = as_text(reader.part());
    const auto value = reader.part();
    if (!reader.ok() || !valid_name(name) || value.size() > kMaxValueBytes) return malformed();
    if (!fields.empty() && name <= fields.rbegin()->first) return malformed();
    fields.emplace_hint(fields.end(), name, SecureBuffer::copy_of(value));
  }
  if (!reader.at_end()) return malformed();
  return fields;
}

}  // namespace postern::vault
