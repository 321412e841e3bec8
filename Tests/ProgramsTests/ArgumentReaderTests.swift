import KnockBase
import Testing

@testable import Programs

/// A table of options: `--port` and `--pollute` are the original's, so they can be abbreviated.
private enum Option: UInt8, OptionTable {
  case port, pollute, keyFile, quiet, verbose, help, version

  var heading: Literal? { nil }
  var spec: OptionSpec {
    switch self {
    case .port: OptionSpec("p", "port", value: "PORT", original: true, "UDP port")
    case .pollute: OptionSpec(nil, "pollute", original: true, "begins as --port does")
    case .keyFile: .keyFile
    case .quiet: OptionSpec("q", "quiet", "log less")
    case .verbose: OptionSpec("v", "verbose", "log more")
    case .help: .help
    case .version: .version
    }
  }
}

@Suite struct ArgumentReaderTests {
  @Test(
    arguments: [
      ([], []),
      // The forms of an option with a value.
      (["-p", "7"], ["port 7"]), (["-p7"], ["port 7"]), (["-p=7"], ["port 7"]),
      (["--port", "7"], ["port 7"]), (["--port=7"], ["port 7"]), (["--port="], ["port "]),
      (["--port=a=b"], ["port a=b"]), (["-p=", "7"], ["port ", "operand 7"]),
      (["-k", "-"], ["keyFile -"]), (["-k-"], ["keyFile -"]), (["-kq"], ["keyFile q"]),
      (["-p", "-7"], ["port -7"]), (["-p", "--", "-v"], ["port -v"]),
      (["-p"], ["-p/--port needs a value: PORT"]),
      (["-p", "-v"], ["-p/--port needs a value: PORT", "verbose"]),
      (["-p", "--"], ["-p/--port needs a value: PORT"]),
      (["--pollute=7"], ["--pollute takes no value"]),
      // Clusters of flags, the last of which may take a value.
      (["-vq"], ["verbose", "quiet"]), (["-vv"], ["verbose", "verbose"]),
      (["-vp7"], ["verbose", "port 7"]), (["-qp", "7"], ["quiet", "port 7"]),
      (["-vx", "y"], ["verbose", "unknown -vx", "operand y"]),
      // Abbreviations, of the original's options only.
      (["--por", "7"], ["port 7"]), (["--por=7"], ["port 7"]), (["--pol"], ["pollute"]),
      (["--po", "7"], ["--po may be --port or --pollute", "operand 7"]),
      (["--he"], ["help"]), (["--verb"], ["unknown --verb"]), (["--key=x"], ["unknown --key=x"]),
      (["--ports"], ["unknown --ports"]), (["--Port"], ["unknown --Port"]),
      // Operands, and what looks like an option but is none.
      (["x", "-v", "y"], ["operand x", "verbose", "operand y"]), ([""], ["operand "]),
      (["-"], ["operand -"]), (["-1"], ["operand -1"]), (["-1.5"], ["operand -1.5"]),
      (["-.5"], ["operand -.5"]), (["-1."], ["unknown -1."]), (["-1.5.2"], ["unknown -1.5.2"]),
      // A name with one dash is no letter with a value.
      (["-port", "7"], ["unknown -port", "operand 7"]), (["-port=7"], ["unknown -port=7"]),
      (["-key-file"], ["unknown -key-file"]), (["-port7"], ["port ort7"]),
      (["-x y"], ["operand -x y"]), (["--x y"], ["operand --x y"]), (["-x"], ["unknown -x"]),
      (["--port=a b"], ["port a b"]),
      // After -- there are only operands.
      (["-v", "--", "-v", "--"], ["verbose", "operand -v", "operand --"]),
    ] as [([String], [String])])
  func `a command line is read as argparse does`(words: [String], expected: [String]) {
    var reader = ArgumentReader(argumentList(words))
    var found: [String] = []
    while let token = reader.next({ Option.spec($0) }) { found.append(description(of: token)) }
    #expect(found == expected)
  }

  @Test func `the rest of the arguments begins with the last token`() {
    var reader = ArgumentReader(argumentList(["open", "-v", "--", "ssh", "-q"]))
    while !reader.onlyOperands { _ = reader.next { Option.spec($0) } }
    let rest = reader.takeRest()
    #expect((0..<rest.count).compactMap { rest[$0].map(string) } == ["ssh", "-q"])
    #expect(reader.next { Option.spec($0) } == nil)
  }

  private func description(of token: Token) -> String {
    switch token {
    case .option(let number, let value):
      (Option(rawValue: number).map { "\($0)" } ?? "?") + (value.map { " " + string($0) } ?? "")
    case .operand(let operand): "operand " + string(operand)
    case .misuse(let misuse): description(of: misuse)
    }
  }

  private func description(of misuse: Misuse) -> String {
    switch misuse {
    case .unknownOption(let word): "unknown " + string(word)
    case .ambiguousOption(let word, let first, let second):
      "\(string(word)) may be --\(string(first)) or --\(string(second))"
    case .missingValue(let option, let value): "\(text(of: option)) needs a value: \(string(value))"
    case .unexpectedValue(let option): "\(text(of: option)) takes no value"
    default: "\(misuse)"
    }
  }

  private func text(of option: OptionName) -> String {
    let short = option.short == 0 ? "" : "-\(Character(Unicode.Scalar(option.short)))/"
    return "\(short)--\(string(option.long))"
  }
}
