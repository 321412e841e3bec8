import Foundation
import KnockBase
import KnockProtocol
import Testing

@testable import Programs

@Suite struct CommandTemplateTests {
  private static let knock = Knock(
    command: .open, address: .inet6(high: 0x2001_0DB8_0000_0000, low: 1))

  /// The words that the template becomes for a knock.
  private func expand(_ text: String, shell: Bool) throws(CommandTemplate.Failure) -> [String] {
    let template = try CommandTemplate(argument(text), shell: shell)
    guard let memory = Storage<UInt8>.mapped(max(1, template.longestExpansion)),
      var arguments = StringList(capacity: template.wordCount)
    else { throw .outOfMemory }
    var words = StorageText(memory)
    template.expand(for: Self.knock, into: &words, &arguments)
    return (0..<arguments.count).compactMap { index in
      arguments.pointer?[index].map { String(cString: $0) }
    }
  }

  @Test func `a shell command is one word for the shell`() throws {
    #expect(
      try expand("echo '$ip' $HOME; x", shell: true)
        == ["/bin/sh", "-c", "echo '2001:db8::1' $HOME; x"])
  }

  @Test func `without a shell placeholders are replaced inside the words`() throws {
    #expect(
      try expand(#"/sbin/x "a $ip" '$cmd'${af}z "" $$ip \$ip"#, shell: false)
        == ["/sbin/x", "a 2001:db8::1", "openinet6z", "", "$ip", "2001:db8::1"])
  }

  @Test func `an empty command has no words`() throws {
    #expect(try expand("", shell: true) == [])
    #expect(try expand(" \t", shell: false) == [])
  }

  @Test func `a word that the kernel would refuse is an error at start`() throws {
    let limit = CommandTemplate.wordLimit - 1
    let fitting = "$ip " + String(repeating: "x", count: limit - 40)
    #expect(try expand(fitting, shell: true).last?.count == limit - 39 + 11)
    for tooLong in [fitting + "x", fitting + "$af"] {
      #expect(throws: CommandTemplate.Failure.wordTooLong) {
        _ = try expand(tooLong, shell: true).count
      }
    }
    #expect(throws: CommandTemplate.Failure.wordTooLong) {
      _ = try expand("a 'x" + fitting + "'", shell: false).count
    }
    #expect(throws: CommandTemplate.Failure.words(.trailingBackslash)) {
      try expand("a\\", shell: false)
    }
  }
}
