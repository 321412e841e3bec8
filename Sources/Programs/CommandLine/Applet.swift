import KnockBase

/// How a program ends. Source of 3 to 5: the Python original.
struct ExitCode: Equatable {
  let rawValue: Int32

  static var success: ExitCode { ExitCode(rawValue: 0) }
  static var failure: ExitCode { ExitCode(rawValue: 1) }
  static var misuse: ExitCode { ExitCode(rawValue: 2) }
  static var cannotResolve: ExitCode { ExitCode(rawValue: 3) }
  static var badSourceAddress: ExitCode { ExitCode(rawValue: 4) }
  static var badSignedAddress: ExitCode { ExitCode(rawValue: 5) }
  static var connectionBroke: ExitCode { ExitCode(rawValue: 6) }
}

/// What the options of an applet set, with the defaults at first.
protocol AppletSettings {
  associatedtype Option: OptionTable
  init()
  /// Where `-k` says that the key is; nil without it, when one of the operands is the key.
  var keyFile: Argument? { get }
  /// Whether none of the arguments can be the key, so that they may be shown.
  var mayQuote: Bool { get }
  /// Takes an option but help and version.
  mutating func apply(_ option: Option, _ value: Argument?) throws(Misuse)
  /// Adds what a file says. False, with a report, where that is of no use.
  mutating func complete(_ report: Report) -> Bool
  /// Checks what the options mean together.
  func validate() throws(Misuse)
}

extension AppletSettings {
  var mayQuote: Bool { keyFile != nil }
  mutating func complete(_ report: Report) -> Bool { true }
  func validate() throws(Misuse) {}
}

/// A program in this one: what its command line looks like, and its work.
protocol Applet {
  associatedtype Settings: AppletSettings
  /// `pyknock server`, for one.
  static var program: StaticString { get }
  /// What stands behind the name of the program in the usage line.
  static var synopsis: StaticString { get }
  /// Between the usage line and the options in the help; whole lines.
  static var description: StaticString { get }
  /// The names of the operands, the key's among them unless `-k` gives it.
  static func operandNames(withKey: Bool) -> StaticString
  /// How many operands there are but for the key, at most 3, where so many are `given`.
  static func operandCount(_ settings: Settings, _ operands: Operands, given: Int) -> Int
  /// Whether what stands behind `--` after these operands is a command of the user's.
  static func takesCommand(_ settings: Settings, after operands: Operands) -> Bool
  /// Where the key stands among the operands; nil where it is not one of them.
  static func keyOperand(_ settings: Settings, _ operands: Operands) -> Int?
  /// Prints what an option asks for in the place of the work, if one does.
  static func printInstead(_ settings: Settings) -> ExitCode?
  /// Does the work. `operands` holds as many as it must; `key` is nil where neither they nor `-k` give it.
  static func run(_ settings: Settings, _ operands: Operands, key: KeySource?) -> ExitCode
}

/// Operands in their order. Counts all, and holds the first three.
struct Operands {
  private var items = InlineArray<3, Argument?>(repeating: nil)
  private(set) var count = 0
  /// What is not for us, but to be run.
  var command: ArgumentList?

  subscript(index: Int) -> Argument? { index < items.count ? items[index] : nil }

  mutating func append(_ argument: Argument) {
    if count < items.count { items[count] = argument }
    count += 1
  }

  /// Without one of them.
  func removing(_ position: Int) -> Operands {
    var rest = Operands()
    for index in items.indices where index != position {
      if let item = items[index] { rest.append(item) }
    }
    return rest
  }
}

extension Applet {
  static func takesCommand(_ settings: Settings, after operands: Operands) -> Bool { false }
  static func printInstead(_ settings: Settings) -> ExitCode? { nil }

  /// Reads the command line, and does what it says.
  static func start(_ arguments: ArgumentList) -> ExitCode {
    log.begin(as: program)
    var settings = Settings()
    var operands = Operands()
    var misuse: Misuse?
    var reader = ArgumentReader<Settings.Option>(arguments)
    while let token = reader.next() {
      switch token {
      case .operand where reader.onlyOperands && takesCommand(settings, after: operands):
        operands.command = reader.takeRest()
      case .operand(let operand): operands.append(operand)
      case .misuse(let found): misuse = misuse ?? found
      case .option(let option, _) where option == .help: return printHelp()
      case .option(let option, _) where option == .version: return printVersion()
      case .option(let option, let value):
        do throws(Misuse) {
          try settings.apply(option, value)
        } catch { misuse = misuse ?? error }
      }
    }

    log.showsArguments = settings.mayQuote
    if let misuse { return fail(misuse, mayQuote: settings.mayQuote) }
    guard settings.complete(Report(program: program)) else { return .failure }
    do throws(Misuse) {
      try settings.validate()
    } catch { return fail(error, mayQuote: settings.mayQuote) }
    let keyOperand = settings.keyFile == nil ? keyOperand(settings, operands) : nil
    let keyCount = keyOperand == nil ? 0 : 1
    let needed =
      operandCount(settings, operands, given: operands.count - keyCount) + keyCount
    if let printed = printInstead(settings) { return printed }
    guard operands.count == needed else {
      let names = operandNames(withKey: keyOperand != nil)
      return fail(
        .operandCount(needed: needed, names: names, given: operands.count), mayQuote: false)
    }
    guard let keyOperand else {
      return run(settings, operands, key: settings.keyFile.map { .file($0) })
    }
    return run(
      settings, operands.removing(keyOperand), key: operands[keyOperand].map { .operand($0) })
  }

  static func printHelp() -> ExitCode {
    printToStandardOutput(program: program) { output in
      appendUsage(to: &output)
      output.append("\n\n")
      output.append(description)
      output.append("\noptions:\n")
      output.append(helpOf: Settings.Option.self)
    }
  }

  /// Reports a mistake in the command line, with the usage line.
  static func fail(_ misuse: Misuse, mayQuote: Bool) -> ExitCode {
    let report = Report(program: program)
    var line = Line(.error)
    misuse.describe(to: &line, mayQuote: mayQuote)
    report.write(line)
    var usage = Line()
    appendUsage(to: &usage)
    report.writePlain(usage)
    return .misuse
  }

  private static func appendUsage(to sink: inout some TextSink & ~Copyable) {
    sink.append("usage: ")
    sink.append(program)
    sink.append(" ")
    sink.append(synopsis)
  }
}

/// Writes to the standard output, and reports an error of that.
func printToStandardOutput(
  program: StaticString, _ body: (inout FileText) -> Void
) -> ExitCode {
  var output = FileText(descriptor: 1)
  body(&output)
  do throws(SystemError) {
    try output.finish()
    return .success
  } catch {
    Report(program: program).write("standard output", error)
    return .failure
  }
}

func printVersion() -> ExitCode {
  printToStandardOutput(program: "pyknock") { output in
    output.append("pyknock ")
    output.append(version)
    output.append("\n")
  }
}
