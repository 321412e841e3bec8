/// A hash table that finds the positions of records in an array. It uses linear probing, is at most half full and
/// has no tombstones. So the cost of each operation does not depend on the number of records.
public struct PositionIndex: ~Copyable {
  /// Position + 1, in the slot of its hash or one of the next; 0 is an empty slot.
  private let slots: Storage<UInt32>

  /// - Parameter slots: zeroed; `count(forRecords:)` tells how many.
  public init(_ slots: consuming Storage<UInt32>) {
    precondition(slots.count >= 2 && slots.count & (slots.count - 1) == 0)
    self.slots = slots
  }

  /// See `Storage.alias`.
  public func alias() -> PositionIndex { PositionIndex(slots.alias()) }

  /// How many slots are needed for `count` records (at most 2^30): a power of two.
  public static func count(forRecords count: Int) -> Int {
    var size = 2
    while size < 2 * count { size *= 2 }
    return size
  }

  /// Whether there are enough slots for `count` records.
  public func holds(_ count: Int) -> Bool { slots.count >= 2 * count }

  /// The position with this hash for which `isWanted` is true. It is called for other hashes too.
  @inline(never)
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

  /// - Parameter hashOf: returns the hash of the record at a position.
  @inline(never)
  public func leave(_ position: Int, hash: UInt64, hashOf: (Int) -> UInt64) {
    var hole = home(of: hash)
    while let other = self.position(in: hole), other != position { hole = next(hole) }
    // Close the gap: each of the next entries moves into it, unless that is before its home.
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
