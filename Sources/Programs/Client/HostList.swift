import KnockBase

/// The hosts that a command line names: one, or several with commas between them.
struct HostList {
  static let maximumCount = 16

  private var items = InlineArray<16, Argument?>(repeating: nil)
  private(set) var count = 0

  subscript(index: Int) -> Argument? { items[index] }

  /// Divides the text at its commas, which become NUL. Returns nil, and changes nothing, if there are too many
  /// names or one is empty.
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
    var start = 0
    for index in 0...text.count
    where unsafe index == text.count || text.pointer[index] == CChar(comma) {
      if index < text.count { unsafe text.pointer[index] = 0 }
      items[count] = unsafe Argument(text.pointer + start)
      count += 1
      start = index + 1
    }
  }
}
