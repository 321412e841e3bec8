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

  /// The operands without one of them.
  func removing(_ position: Int) -> Operands {
    var rest = Operands()
    for index in items.indices where index != position {
      if let item = items[index] { rest.append(item) }
    }
    return rest
  }
}
