/// Operands in their order. Counts all of them, and holds the first three.
struct Operands {
  private var items = InlineArray<3, Argument?>(repeating: nil)
  private(set) var count = 0
  /// The user's command after `--`.
  var command: ArgumentList?

  subscript(index: Int) -> Argument? { index < items.count ? items[index] : nil }

  mutating func append(_ argument: Argument) {
    if count < items.count { items[count] = argument }
    count += 1
  }

  /// Removes one of the first three, and returns it.
  mutating func remove(_ position: Int) -> Argument? {
    guard position < min(count, items.count) else { return nil }
    let removed = items[position]
    for index in position..<items.count {
      items[index] = index + 1 < items.count ? items[index + 1] : nil
    }
    count -= 1
    return removed
  }
}
