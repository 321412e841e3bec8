import KnockBase

/// Why the first line of a file is no key: it is the first line of many files, or has something around the key.
public enum KeyLineFault: Equatable, Sendable {
  case pem, sshKey, puttyKey, ageKey, minisignKey, comment, markup, json, firewallRules, section
  case byteOrderMark, blanks, quotes, name

  /// Nil if the line may be a key. That of `pyknock keygen` always may: it has 43 letters, digits, `-` and `_`.
  ///
  /// - Parameter line: UTF-8, without its end.
  public init?(of line: Span<UInt8>) {
    guard line.count > 0 else { return nil }
    if line.hasPrefix(in: "\u{FEFF}") || line.isUTF16 {
      self = .byteOrderMark
    } else if line.hasPrefix(in: "----\n== ed25519v1-\nSSH PRIVATE KEY") {
      self = .pem
    } else if line.hasPrefix(in: "PuTTY-User-Key-File-") {
      self = .puttyKey
    } else if line.namesSSHKey {
      self = .sshKey
    } else if line.hasPrefix(in: "AGE-SECRET-KEY-\nAGE-PLUGIN-\nage-encryption.org/")
      || line.isAgeRecipient
    {
      self = .ageKey
    } else if line.hasPrefix(in: "untrusted comment:\ntrusted comment:") {
      self = .minisignKey
    } else if line.hasPrefix(in: "#\n;\n//\n/*\n-- ") {
      self = .comment
    } else if line.hasPrefix(in: "<\n---\n%YAML") {
      self = .markup
    } else if line.hasPrefix(in: "{") {
      self = .json
    } else if line.hasPrefix(in: "[") {
      self = .section
    } else if line.hasPrefix(in: Self.ruleBeginnings) {
      self = .firewallRules
    } else if line.hasPrefix(in: Self.blankCharacters) || line.endsWithBlank {
      self = .blanks
    } else if line.hasPrefix(in: "\"\n'\n`\n“\n”\n„\n‘\n’\n‚\n«\n»") || line.endsWithQuote {
      self = .quotes
    } else if line.beginsWithName {
      self = .name
    } else {
      return nil
    }
  }

  /// What nft(8), iptables-save(8) and scripts for nft begin with.
  private static var ruleBeginnings: Literal {
    """
    table inet \ntable ip\ntable arp \ntable bridge \ntable netdev \nadd table \nadd chain \nadd rule \n\
    add set \nadd element \ndelete table \ndestroy table \nflush ruleset\nflush table \nflush chain \n\
    flush set \ninclude "\n*filter\n*nat\n*mangle\n*raw
    """
  }

  /// With the no-break space.
  private static var blankCharacters: Literal { " \n\t\n\r\n\u{B}\n\u{C}\n\u{A0}" }
}

extension Span<UInt8> {
  /// Whether the text begins with one of the words in a list. Line feeds separate them.
  fileprivate func hasPrefix(in list: Literal) -> Bool {
    list.withBytes { list in
      var matched = 0
      var matches = true
      for index in list.indices {
        let byte = list[index]
        if byte == UInt8(ascii: "\n") {
          if matches { return true }
          (matched, matches) = (0, true)
        } else {
          matches = matches && matched < count && self[matched] == byte
          matched += 1
        }
      }
      return matches
    }
  }

  fileprivate var isUTF16: Bool {
    count >= 2 && (self[0] == 0xFF && self[1] == 0xFE || self[0] == 0xFE && self[1] == 0xFF)
  }

  /// A line of a public key, of authorized_keys or of known_hosts. Source: sshd(8).
  fileprivate var namesSSHKey: Bool {
    guard firstIndex(of: UInt8(ascii: " ")) != nil else { return false }
    var isNamed = false
    visitWords { word in
      isNamed =
        isNamed
        || word.hasPrefix(in: "ssh-\necdsa-sha2-\nsk-ssh-\nsk-ecdsa-\nrsa-sha2-\nwebauthn-sk-")
    }
    return isNamed
  }

  /// In Bech32, at least 59 characters, none of them a capital.
  fileprivate var isAgeRecipient: Bool {
    guard count >= 59, hasPrefix(in: "age1") else { return false }
    for index in indices {
      let isCapital = self[index] & 0x60 == 0x40
      if isCapital || !isLetterOrDigit(self[index]) { return false }
    }
    return true
  }

  fileprivate var endsWithBlank: Bool {
    let last = self[count - 1]
    return last == UInt8(ascii: " ") || (9...13).contains(last)
      || count > 1 && self[count - 2] == 0xC2 && last == 0xA0
  }

  fileprivate var endsWithQuote: Bool {
    let last = self[count - 1]
    return last == UInt8(ascii: "\"") || last == UInt8(ascii: "'") || last == UInt8(ascii: "`")
  }

  /// Whether a name such as `key` or `PYKNOCK_PSK` stands before the key, with `=` or `:` behind it. The `=` at the
  /// end of Base64 is none.
  fileprivate var beginsWithName: Bool {
    if hasPrefix(in: "export ") { return true }
    var end = 0
    while end < count,
      isLetterOrDigit(self[end]) || self[end] == UInt8(ascii: "_")
        || self[end] == UInt8(ascii: "-")
    {
      end += 1
    }
    let name = extracting(first: end)
    while end < count, self[end] == UInt8(ascii: " ") { end += 1 }
    guard end < count, self[end] == UInt8(ascii: "=") || self[end] == UInt8(ascii: ":") else {
      return false
    }
    while end < count, self[end] == UInt8(ascii: "=") { end += 1 }
    guard end < count else { return false }
    return name.contains("key") || name.contains("psk") || name.contains("secret")
      || name.contains("pass")
  }
}

private func isLetterOrDigit(_ byte: UInt8) -> Bool {
  switch byte {
  case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
    UInt8(ascii: "a")...UInt8(ascii: "z"):
    true
  default: false
  }
}
