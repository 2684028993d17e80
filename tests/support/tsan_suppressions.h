#pragma once

// For every test binary that starts a server.
//
// Pistache comes without instrumentation, so ThreadSanitizer does not see the
// reference counts by which it hands a peer from the accept thread to a reactor
// thread. Only frames of Pistache itself are named here.
extern "C" [[gnu::used]] inline const char* __tsan_default_suppressions() {
  return "race:Pistache::Tcp::Listener::handleNewConnection\n"
         "race:Pistache::Polling::Epoll::addFd\n";
}
