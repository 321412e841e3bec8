import KnockBase

/// The hosts that a command line names: one, or several with commas between them.
struct HostList {
  static let maximumCount = 16

  private var items = InlineArray<16, Argument?>(repeating: nil)
  private(set) var count = 0

  subscript(index: Int) -> Argument? { items[index] }

  /// Divides the text at its commas, which become NUL. Returns nil, and changes nothing, if there are too many
  /// names or one is empty.
  @inline(never)
  init?(dividing text: Argument, maximumCount: Int) {
    let comma = UInt8(ascii: ",")
    let isGood = text.withBytes { text in
      var commas = 0
      for index in text.indices where text[index] == comma {
        commas += 1
        if index == 0 || index + 1 == text.count || text[index + 1] == comma { return false }
      }
      return commas < maximumCount
    }
    guard isGood else { return nil }
    let end = text.count
    var start = 0
    for index in 0...end where unsafe index == end || text.pointer[index] == CChar(comma) {
      unsafe text.pointer[index] = 0
      items[count] = unsafe Argument(text.pointer + start).withoutBrackets
      count += 1
      start = index + 1
    }
  }
}

/// HOST of the command line, or HostName of client.conf.
extension Argument {
  /// What it would have to be instead. Nil if the resolver may decide.
  @inline(never)
  var hostRefusal: Literal? {
    guard !isBracketed else { return nil }
    return withBytes { text in
      var colons = 0
      var (hasBracket, hasZone) = (false, false)
      for index in text.indices {
        switch text[index] {
        case UInt8(ascii: ":"): colons += 1
        case UInt8(ascii: "@"): return "a host alone: leave out the user and the @"
        case UInt8(ascii: "/"): return "a host alone: write its name or address, and no URL or path"
        case UInt8(ascii: "["), UInt8(ascii: "]"): hasBracket = true
        case UInt8(ascii: "%"): hasZone = true
        default: break
        }
      }
      return colons == 1 || hasBracket || colons > 1 && !hasZone && Address(self) == nil
        ? "a host alone: leave out brackets, and the port, which -p or Port in client.conf names"
        : nil
    }
  }

  /// Whether it is a host rather than a key, so that a message may show it. A key is likely to have capitals. A long host
  /// has a dot or a colon, since a key may be hexadecimal.
  @inline(never)
  var looksLikeHost: Bool {
    withBytes { text in
      var isDivided = false
      for index in text.indices {
        switch text[index] {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"): continue
        case UInt8(ascii: "."), UInt8(ascii: ":"): isDivided = true
        case UInt8(ascii: "-") where index > 0: continue
        default: return false
        }
      }
      return !text.isEmpty && text.count < (isDivided ? 64 : Key.shortSize)
    }
  }

  /// The text without the brackets around an IPv6 address. A NUL replaces the last one.
  var withoutBrackets: Argument {
    guard isBracketed else { return self }
    unsafe pointer[count - 1] = 0
    return unsafe Argument(pointer + 1)
  }

  private var isBracketed: Bool {
    withBytes { text in
      text.hasPrefix("[") && text.firstIndex(of: UInt8(ascii: "]")) == text.count - 1
        && text.firstIndex(of: UInt8(ascii: ":")) != nil
    }
  }
}
