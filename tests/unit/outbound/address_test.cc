#include "outbound/address.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace postern::outbound {
namespace {

TEST(IpAddress, IsReadInItsOneSafeForm) {
  for (const std::string_view text :
       {"0.0.0.0", "1.2.3.4", "255.255.255.255", "::", "::1", "2001:db8::1", "fe80::1",
        "::ffff:10.0.0.1", "2606:4700:4700::1111"}) {
    const auto address = IpAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->str(), text);
  }
  for (const std::string_view text : {"",
                                      ".",
                                      "1",
                                      "127.1",
                                      "127.0.1",
                                      "2130706433",
                                      "0x7f000001",
                                      "0x7f.0.0.1",
                                      "0177.0.0.1",
                                      "017700000001",
                                      "010.0.0.1",
                                      "127.0.0.01",
                                      "127.0.0.1.",
                                      ".127.0.0.1",
                                      "127.0.0.256",
                                      "127.0.0.1.1",
                                      "127.0.0",
                                      "127..0.1",
                                      " 127.0.0.1",
                                      "127.0.0.1 ",
                                      "127.0.0.1\n",
                                      "+1.2.3.4",
                                      "1.2.3.-4",
                                      "127.0.0.1/8",
                                      "[::1]",
                                      "::1%lo",
                                      "fe80::1%eth0",
                                      ":::",
                                      "1::2::3",
                                      "::g",
                                      "12345::",
                                      "::1.2.3",
                                      "::127.1",
                                      "0:0:0:0:0:0:0:0:1",
                                      "localhost",
                                      "\xef\xbc\x91.2.3.4"}) {
    EXPECT_FALSE(IpAddress::parse(text)) << text;
  }
  EXPECT_FALSE(IpAddress::parse(std::string_view("127.0.0.1\0", 10)));
  EXPECT_FALSE(IpAddress::parse(std::string_view("1.1.1.1\0.x", 10)));
  EXPECT_FALSE(IpAddress::parse(std::string(100'000, '1')));
}

TEST(IpAddress, PublicMeansNoSpecialUse) {
  for (const std::string_view text : {"1.1.1.1",
                                      "8.8.8.8",
                                      "9.255.255.255",
                                      "11.0.0.0",
                                      "100.63.255.255",
                                      "100.128.0.0",
                                      "126.255.255.255",
                                      "128.0.0.0",
                                      "169.253.255.255",
                                      "169.255.0.0",
                                      "172.15.255.255",
                                      "172.32.0.0",
                                      "192.0.1.0",
                                      "192.0.3.0",
                                      "192.167.255.255",
                                      "192.169.0.0",
                                      "198.17.255.255",
                                      "198.20.0.0",
                                      "223.255.255.255",
                                      "168.63.129.15",
                                      "168.63.129.17",
                                      "2606:4700:4700::1111",
                                      "2001:4860:4860::8888",
                                      "2001:200::1",
                                      "2a00:1450::1",
                                      "2003::1"}) {
    EXPECT_TRUE(IpAddress::parse(text)->is_public()) << text;
  }
  for (const std::string_view text :
       {// IPv4, the ends of every range
        "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255",
        "100.100.100.200", "127.0.0.0", "127.0.0.1", "127.255.255.255", "168.63.129.16",
        "169.254.0.0", "169.254.169.254", "169.254.170.2", "169.254.255.255", "172.16.0.0",
        "172.31.255.255", "192.0.0.0", "192.0.0.192", "192.0.0.255", "192.0.2.0", "192.0.2.255",
        "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.0", "192.168.255.255",
        "192.175.48.1", "198.18.0.0", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1",
        "239.255.255.255", "240.0.0.1", "255.255.255.255",
        // IPv6
        "::", "::1", "::2", "::7f00:1", "::127.0.0.1", "::8.8.8.8",  // compatible
        "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8",    // mapped, translated
        "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1",       // NAT64
        "100::1", "2001::1", "2001:0:7f00:1::", "2001:2::1", "2001:10::1", "2001:20::1",
        "2001:1ff:ffff::1", "2001:db8::1", "2001:db8:ffff::1",
        "2002:7f00:1::", "2002:808:808::1",  // 6to4
        "2620:4f:8000::1", "3fff::1", "3fff:fff::1", "4000::1", "5f00::1", "fc00::1", "fd00::1",
        "fd00:ec2::254", "fdff:ffff::1", "fe80::1", "febf::1", "fec0::1", "ff02::1", "ffff::1",
        "1fff:ffff::1"}) {
    EXPECT_FALSE(IpAddress::parse(text)->is_public()) << text;
  }
}

TEST(IpAddress, LoopbackIsOnlyLoopback) {
  for (const std::string_view text : {"127.0.0.1", "127.0.0.0", "127.255.255.255", "::1"}) {
    EXPECT_TRUE(IpAddress::parse(text)->is_loopback()) << text;
  }
  for (const std::string_view text : {"0.0.0.0", "126.0.0.1", "128.0.0.1", "::", "::2", "1::1",
                                      "::127.0.0.1", "::ffff:127.0.0.1", "fe80::1"}) {
    EXPECT_FALSE(IpAddress::parse(text)->is_loopback()) << text;
  }
}

TEST(Network, HoldsItsAddressesAndNoOthers) {
  const auto contains = [](std::string_view network, std::string_view address) {
    return Network::parse(network).value().contains(*IpAddress::parse(address));
  };
  EXPECT_TRUE(contains("10.0.0.0/8", "10.255.0.1"));
  EXPECT_FALSE(contains("10.0.0.0/8", "11.0.0.0"));
  EXPECT_TRUE(contains("192.168.4.0/22", "192.168.7.255"));
  EXPECT_FALSE(contains("192.168.4.0/22", "192.168.8.0"));
  EXPECT_TRUE(contains("10.1.2.3/32", "10.1.2.3"));
  EXPECT_FALSE(contains("10.1.2.3/32", "10.1.2.2"));
  EXPECT_TRUE(contains("0.0.0.0/0", "255.255.255.255"));
  EXPECT_TRUE(contains("fd00::/8", "fdff::1"));
  EXPECT_FALSE(contains("fd00::/8", "fc00::1"));
  EXPECT_TRUE(contains("2001:db8::8/125", "2001:db8::f"));
  EXPECT_FALSE(contains("2001:db8::8/125", "2001:db8::10"));
  EXPECT_TRUE(contains("::1/128", "::1"));
  // One family never stands for the other.
  EXPECT_FALSE(contains("0.0.0.0/0", "::1"));
  EXPECT_FALSE(contains("::/0", "10.0.0.1"));
  EXPECT_FALSE(contains("10.0.0.0/8", "::ffff:10.0.0.1"));
}

TEST(Network, IsWrittenStrictly) {
  for (const std::string_view text :
       {"", "/", "10.0.0.0", "10.0.0.0/", "/8", "10/8", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8",
        "10.0.0.0/08", "10.0.0.0/8 ", "10.0.0.0/8/8", "10.0.0.1/8", "10.0.0.0/0x8", "fd00::/129",
        "fd00::1/64", "[fd00::]/8", "10.0.0.0/255.0.0.0", "10.0.0.0/99999999999"}) {
    const auto network = Network::parse(text);
    ASSERT_FALSE(network.ok()) << text;
    EXPECT_EQ(network.error().code, ErrorCode::MalformedRequest);
  }
  EXPECT_EQ(Network::parse("10.0.0.0/8").value().str(), "10.0.0.0/8");
  EXPECT_EQ(Network::parse("fd00::/8").value().str(), "fd00::/8");
}

}  // namespace
}  // namespace postern::outbound
