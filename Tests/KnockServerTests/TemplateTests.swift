import Foundation
import KnockProtocol
import KnockServer
import TestSupport
import Testing

private let ip = "2001:db8::1"

@Suite struct TemplateTests {
  private static let knock = Knock(
    command: .close, address: .inet6(high: 0x2001_0DB8_0000_0000, low: 1))

  @Test(arguments: [
    ("ipset add s $ip", "ipset add s 2001:db8::1"),
    ("$af$cmd${ip}", "inet6close2001:db8::1"),
    ("$$ip $ip$$", "$ip 2001:db8::1$"),
    ("$ipx ${ipx} $IP $_ip $ip_", "$ipx ${ipx} $IP $_ip $ip_"),
    ("$ipa $ipz $ipA $ipZ $ip0 $ip9", "$ipa $ipz $ipA $ipZ $ip0 $ip9"),
    ("$ip` $ip{ $ip@ $ip[ $ip/ $ip:", "\(ip)` \(ip){ \(ip)@ \(ip)[ \(ip)/ \(ip):"),
    ("$ip. $ip- ${ip}x", "2001:db8::1. 2001:db8::1- 2001:db8::1x"),
    ("$HOME $(date) $1 `x` $", "$HOME $(date) $1 `x` $"),
    ("${ip ${} ${$ip} ${ ip}", "${ip ${} ${2001:db8::1} ${ ip}"),
    ("$$$ip $$$$ip", "$2001:db8::1 $$ip"),
    ("", ""),
  ])
  func `names are replaced and the rest is left alone`(template: String, expected: String) {
    #expect(expand(Array(template.utf8)) == Array(expected.utf8))
  }

  @Test func `expansion is that of Python's safe_substitute`() throws {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = [
      "python3", "-c",
      """
      import random, string
      parts = ['$', '$$', '{', '}', 'ip', 'af', 'cmd', 'IP', 'ipx', '_', '1', ' ', 'x', '(', ')',
               '${ip}', '$af', '${cmd', 'é', 'ſ', 'K', '\\\\', '\\n', '"', "'"]
      random.seed(20)
      for _ in range(5000):
          template = ''.join(random.choices(parts, k=random.randint(0, 9)))
          result = string.Template(template).safe_substitute(
              ip='2001:db8::1', af='inet6', cmd='close')
          print(template.encode().hex(), result.encode().hex(), sep=',')
      """,
    ]
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let lines = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      .split(separator: "\n")
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    #expect(lines.count == 5000)
    for line in lines {
      let sides = line.split(separator: ",", omittingEmptySubsequences: false).map(bytes(ofHex:))
      #expect(expand(sides[0]) == sides[1], "template \(String(decoding: sides[0], as: UTF8.self))")
    }
  }

  @Test func `no expansion is longer than the longest`() {
    for template in ["", "$ip", "$ip$ip $af ${cmd} $$ $x", "no name"] {
      let longest = Knock(
        command: .close, address: .inet6(high: .max, low: .max))
      var expansion = Text()
      Template.expand(Array(template.utf8).span, for: longest, into: &expansion)
      #expect(Template.longestExpansion(Array(template.utf8).span) == expansion.bytes.count)
      #expect(expand(Array(template.utf8)).count <= expansion.bytes.count)
    }
  }

  private func expand(_ template: [UInt8]) -> [UInt8] {
    var result = Text()
    Template.expand(template.span, for: Self.knock, into: &result)
    return result.bytes
  }

  private func bytes(ofHex hex: Substring) -> [UInt8] {
    stride(from: 0, to: hex.count, by: 2).compactMap { offset in
      let start = hex.index(hex.startIndex, offsetBy: offset)
      return UInt8(hex[start..<hex.index(start, offsetBy: 2)], radix: 16)
    }
  }
}
