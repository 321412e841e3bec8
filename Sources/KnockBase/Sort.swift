/// Sorts `count` items in place, without more memory (heapsort).
///
/// - Parameters:
///   - isBefore: whether the item at one index comes before the item at another.
///   - swap: exchanges the items at two indices.
@inline(never)
public func sort(_ count: Int, isBefore: (Int, Int) -> Bool, swap: (Int, Int) -> Void) {
  /// Moves an item down until none of those below it comes after it.
  func siftDown(from start: Int, to end: Int) {
    var place = start
    while 2 * place + 1 < end {
      var last = 2 * place + 1
      if last + 1 < end, isBefore(last, last + 1) { last += 1 }
      guard isBefore(place, last) else { return }
      swap(place, last)
      place = last
    }
  }
  for start in (0..<count / 2).reversed() { siftDown(from: start, to: count) }
  for end in (0..<count).reversed() {
    swap(0, end)
    siftDown(from: 0, to: end)
  }
}
