/// The known name that somebody has most likely meant by a word.
public struct NearestName {
  /// Nil if none is near, or if the word is the beginning of several names.
  public private(set) var name: Literal?
  /// The number of edits, or one of the two ranks behind them.
  private var rank = farRank

  private static var prefixRank: Int { 3 }
  private static var farRank: Int { 4 }

  public init() {}

  /// Whether the word is the name, in upper or lower case.
  public var isSame: Bool { rank == 0 }

  /// Takes a name if it is nearer to the word than all before it.
  @inline(never)
  public mutating func consider(_ known: Literal, for word: Span<UInt8>) {
    let newRank = Self.rank(of: known, for: word)
    if newRank < rank {
      (name, rank) = (known, newRank)
    } else if newRank == Self.prefixRank, rank == newRank {
      name = nil
    }
  }

  /// A third of the letters may be wrong, but two at most: `host` is not meant as `port`.
  private static func rank(of known: Literal, for word: Span<UInt8>) -> Int {
    let letters = max(word.count, known.count)
    for edits in 0...min(letters / 3, 2) {
      let isNear = known.withBytes { word.becomes($0, edits: edits, from: 0, 0) }
      if isNear { return edits }
    }
    return word.isPrefix(of: known) && !word.isEmpty ? prefixRank : farRank
  }
}

extension Span<UInt8> {
  /// Whether edits turn the text behind `start` into that of `name` behind `nameStart`. An edit adds, removes or
  /// replaces a byte, or exchanges two neighbours. Each edit makes four ways to go on, so there must be few.
  fileprivate func becomes(
    _ name: Span<UInt8>, edits: Int, from start: Int, _ nameStart: Int
  ) -> Bool {
    var (index, place) = (start, nameStart)
    while isSame(index, name, place) {
      index += 1
      place += 1
    }
    if index == count, place == name.count { return true }
    guard edits > 0, index <= count, place <= name.count else { return false }
    let isExchange = isSame(index, name, place + 1) && isSame(index + 1, name, place)
    return becomes(name, edits: edits - 1, from: index + 1, place + 1)
      || becomes(name, edits: edits - 1, from: index + 1, place)
      || becomes(name, edits: edits - 1, from: index, place + 1)
      || isExchange && becomes(name, edits: edits - 1, from: index + 2, place + 2)
  }

  /// Ignores the case of ASCII letters. False behind the end of either text.
  @inline(never)
  private func isSame(_ index: Int, _ name: Span<UInt8>, _ place: Int) -> Bool {
    index < count && place < name.count && lowered(self[index]) == lowered(name[place])
  }
}
