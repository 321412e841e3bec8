/// Where something stands in a row of records: a hash table with linear probing, at most half full, without
/// tombstones. Finding, entering and leaving cost the same however many there are.
public struct PositionIndex: ~Copyable {
  /// Positions + 1, where the hash points or behind; 0 is empty.
  private let slots: Storage<UInt32>

  /// - Parameter slots: as many as `count(forRecords:)` says; zeroed.
  public init(_ slots: consuming Storage<UInt32>) {
    precondition(slots.count >= 2 && slots.count & (slots.count - 1) == 0)
    self.slots = slots
  }

  /// How many slots that many records need, at most 2^30: a power of two.
  public static func count(forRecords count: Int) -> Int {
    var size = 2
    while size < 2 * count { size *= 2 }
    return size
  }

  /// Whether there are slots enough for so many records.
  public func holds(_ count: Int) -> Bool { slots.count >= 2 * count }

  /// The first position with a hash, among others, for which `isWanted` is true.
  public func first(hash: UInt64, where isWanted: (Int) -> Bool) -> Int? {
    var slot = home(of: hash)
    while let position = position(in: slot) {
      if isWanted(position) { return position }
      slot = next(slot)
    }
    return nil
  }

  public func enter(_ position: Int, hash: UInt64) {
    var slot = home(of: hash)
    while slots[slot] != 0 { slot = next(slot) }
    slots[slot] = UInt32(position + 1)
  }

  /// - Parameter hashOf: the hash of what stands at a position.
  public func leave(_ position: Int, hash: UInt64, hashOf: (Int) -> UInt64) {
    var hole = home(of: hash)
    while let other = self.position(in: hole), other != position { hole = next(hole) }
    // Closes the gap: each entry behind it moves up unless that would put it before its home.
    var slot = next(hole)
    while let other = self.position(in: slot) {
      let home = home(of: hashOf(other))
      if distance(from: home, to: slot) >= distance(from: hole, to: slot) {
        slots[hole] = slots[slot]
        hole = slot
      }
      slot = next(slot)
    }
    slots[hole] = 0
  }

  private func position(in slot: Int) -> Int? { slots[slot] == 0 ? nil : Int(slots[slot]) - 1 }

  private func home(of hash: UInt64) -> Int {
    Int(truncatingIfNeeded: hash) & (slots.count - 1)
  }

  private func next(_ slot: Int) -> Int { (slot + 1) & (slots.count - 1) }

  private func distance(from start: Int, to end: Int) -> Int { (end - start) & (slots.count - 1) }
}
