#pragma once

// An https server on the loopback interface: what the service fetches from.

#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include "http/server.h"
#include "support/certificates.h"
#include "support/temporary_directory.h"

namespace postern::test {

/// With an authority of its own, which `outbound.ca_file` has to name.
class HttpsHost {
 public:
  explicit HttpsHost(const std::function<void(http::Router&)>& routes) {
    const auto authority = make_certificate("host");
    CertificateDetails details;
    details.alternative_names = "IP:127.0.0.1";
    const auto own = make_certificate("127.0.0.1", &authority, details);
    ca_file_ = directory_.write("ca.pem", authority.certificate_pem()).string();
    http::ServerOptions options;
    options.tls = http::TlsOptions{directory_.write("own.pem", own.certificate_pem()),
                                   directory_.write("own.key", own.key_pem()), std::nullopt, false};
    routes(router_);
    server_ = std::make_unique<http::Server>(options, router_);
    if (!server_->start().ok()) throw std::runtime_error("https host");
  }

  std::string url(const std::string& path) const {
    return "https://127.0.0.1:" + std::to_string(server_->port()) + path;
  }
  const std::string& ca_file() const { return ca_file_; }

 private:
  TemporaryDirectory directory_;
  std::string ca_file_;
  http::Router router_;
  std::unique_ptr<http::Server> server_;
};

}  // namespace postern::test
