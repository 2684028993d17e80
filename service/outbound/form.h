#pragma once

#include <initializer_list>
#include <string_view>
#include <utility>

#include "core/secret.h"

namespace postern::outbound {

using FormBody = Secret<struct FormBodyTag>;            ///< application/x-www-form-urlencoded
using Authorization = Secret<struct AuthorizationTag>;  ///< the header's value, scheme included

/// Fields of a POST, encoded in locked memory. Everything but unreserved
/// characters (RFC 3986 §2.3) becomes %XX, a blank too.
FormBody form_body(std::initializer_list<std::pair<std::string_view, std::string_view>> fields);

/// One text encoded likewise: RFC 6749 §2.3.1 wants it of both halves of Basic.
SecureBuffer form_encoded(std::string_view text);

}  // namespace postern::outbound
