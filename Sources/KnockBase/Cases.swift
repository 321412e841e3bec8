/// The cases of an enum whose raw values count from 0, in their order.
///
/// It is no `Sequence`, and the enums are not `CaseIterable`: both need arrays, and the program has no heap.
public struct Cases<Case: RawRepresentable>: IteratorProtocol where Case.RawValue == UInt8 {
  private var number: UInt8 = 0

  public init() {}

  public mutating func next() -> Case? {
    defer { number += 1 }
    return Case(rawValue: number)
  }

  /// The first case that meets a condition.
  public static func first(where isWanted: (Case) -> Bool) -> Case? {
    var cases = Cases()
    while let next = cases.next() {
      if isWanted(next) { return next }
    }
    return nil
  }
}
