#include "outbound/form.h"

#include <cstddef>
#include <span>
#include <utility>

namespace postern::outbound {
namespace {

bool unreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_' || c == '~';
}

std::size_t encoded_size(std::string_view text) {
  std::size_t size = 0;
  for (const char c : text) size += unreserved(c) ? 1 : 3;
  return size;
}

class Writer {
 public:
  explicit Writer(std::span<std::byte> out) : out_(out) {}
  void put(char c) {
    out_.front() = static_cast<std::byte>(c);
    out_ = out_.subspan(1);
  }
  void encode(std::string_view text) {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    for (const char c : text) {
      if (unreserved(c)) {
        put(c);
        continue;
      }
      const auto byte = static_cast<unsigned char>(c);
      put('%');
      put(kHex[byte >> 4]);
      put(kHex[byte & 15]);
    }
  }

 private:
  std::span<std::byte> out_;
};

}  // namespace

SecureBuffer form_encoded(std::string_view text) {
  SecureBuffer out(encoded_size(text));
  Writer(out.writable()).encode(text);
  return out;
}

FormBody form_body(std::initializer_list<std::pair<std::string_view, std::string_view>> fields) {
  std::size_t size = fields.size() == 0 ? 0 : fields.size() - 1;  // ampersands
  for (const auto& [name, value] : fields) size += encoded_size(name) + 1 + encoded_size(value);
  SecureBuffer out(size);
  Writer writer(out.writable());
  bool first = true;
  for (const auto& [name, value] : fields) {
    if (!std::exchange(first, false)) writer.put('&');
    writer.encode(name);
    writer.put('=');
    writer.encode(value);
  }
  return FormBody(std::move(out));
}

}  // namespace postern::outbound
