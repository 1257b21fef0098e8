package provision

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/pipit-im/pipit/pkg/config"
)

// Problem is one thing in pipit.yaml that is to be mended, in both languages: who reads
// it may have set neither yet.
type Problem struct {
	Line   int // 0: the file as a whole
	EN, ZH string
}

// String is the problem on one line, for a log.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.EN
	}
	return fmt.Sprintf("line %d: %s", p.Line, p.EN)
}

func problem(line int, en, zh string) Problem { return Problem{Line: line, EN: en, ZH: zh} }

// explain puts the parser's faults into words.
func explain(faults []config.Fault, text []byte) []Problem {
	out := make([]Problem, 0, len(faults))
	for _, f := range faults {
		section, name, _ := strings.Cut(f.Key, ".")
		var p Problem
		switch f.What {
		case config.Unknown:
			p = problem(f.Line, fmt.Sprintf("%s is no setting; the nearest is %s.", f.Key, f.Other),
				fmt.Sprintf("没有 %s 这个设置;最接近的是 %s。", f.Key, f.Other))
		case config.Twice:
			p = problem(f.Line, fmt.Sprintf("%s stands in line %d already. Keep one.", f.Key, f.First),
				fmt.Sprintf("%s 在第 %d 行已经有了。请只留一个。", f.Key, f.First))
		case config.NoValue:
			p = problem(f.Line, f.Key+" has nothing behind its colon. Write a value there, or put a # in front of the line.",
				f.Key+" 的冒号后面是空的。请写上值,或在行首加 #。")
		case config.NotSection:
			p = problem(f.Line, f.Key+" has its settings in the lines below it, each with two spaces in front.",
				f.Key+" 的各项设置写在它下面的行里,每行前面空两格。")
		case config.Dotted:
			p = problem(f.Line, fmt.Sprintf("Write %s: on a line and %s: below it, with two spaces in front.", section, name),
				fmt.Sprintf("请先写一行 %s:,再在下一行空两格写 %s:。", section, name))
		case config.HasMore:
			p = problem(f.Line, f.Key+" takes one value, on the same line.", f.Key+" 只能有一个值,写在同一行。")
		default:
			p = syntax(f, text)
		}
		out = append(out, p)
	}
	return out
}

// syntax is for text that is no YAML. It looks for what people type who have never heard
// of YAML, before it repeats what the parser said.
func syntax(f config.Fault, text []byte) Problem {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		s := strings.TrimRight(string(line), "\r\n")
		body := strings.TrimLeft(s, " \t")
		if strings.HasPrefix(body, "#") || body == "" {
			continue
		}
		colon := strings.IndexByte(s, ':')
		switch wide := strings.IndexRune(s, '\uff1a'); {
		case wide >= 0 && (colon < 0 || wide < colon):
			return problem(n, "The colon is a Chinese one (\uff1a). Use the English one (:) and a space behind it.", "冒号是中文的“\uff1a”。请改成英文的“:”,后面空一格。")
		case strings.Contains(s[:len(s)-len(body)], "\t"):
			return problem(n, "The line begins with a tab. Use two spaces instead.", "这一行以 Tab 键开头。请改成两个空格。")
		case colon >= 0 && colon+1 < len(s) && s[colon+1] != ' ' && !strings.HasPrefix(body, "-") && !strings.ContainsAny(s[:colon], " \"'"):
			return problem(n, "There must be a space behind the colon.", "冒号后面要空一格。")
		case colon < 0 && !strings.HasPrefix(body, "-"):
			return problem(n, fmt.Sprintf("%q is no setting: a line looks like `hostname: pipit`.", body), fmt.Sprintf("“%s”不是设置:每行的样子是 `hostname: pipit`。", body))
		}
	}
	said := strings.TrimPrefix(f.Other, "yaml: ")
	if _, rest, ok := strings.Cut(said, ": "); ok && strings.HasPrefix(said, "line ") {
		said = rest
	}
	if f.What == config.SecondDocument {
		said = "a line with --- only"
	}
	return problem(f.Line, "This line, or the one before it, can't be understood ("+said+"). Look at quotes, colons and the spaces in front.",
		"这一行或上一行看不懂("+said+")。请检查引号、冒号和行首的空格。")
}

// decode returns the text as UTF-8 without a byte order mark, whatever Windows' editors
// wrote, or says what to do.
func decode(raw []byte) ([]byte, *Problem) {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(raw, []byte{0xff, 0xfe}):
		order = binary.LittleEndian
	case bytes.HasPrefix(raw, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	}
	if order != nil {
		units := make([]uint16, 0, len(raw)/2)
		for i := 2; i+1 < len(raw); i += 2 {
			units = append(units, order.Uint16(raw[i:]))
		}
		return []byte(string(utf16.Decode(units))), nil
	}
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	if bytes.IndexByte(raw, 0) >= 0 {
		p := problem(0, "The file is no text. It may have been saved by a word processor: use a plain editor (Notepad, TextEdit as plain text).",
			"这个文件不是纯文本,可能是用文字处理软件保存的。请用记事本之类的纯文本编辑器。")
		return nil, &p
	}
	if !utf8.Valid(raw) {
		line := 1
		for rest := raw; len(rest) > 0; {
			r, size := utf8.DecodeRune(rest)
			if r == utf8.RuneError && size == 1 {
				break
			}
			if r == '\n' {
				line++
			}
			rest = rest[size:]
		}
		p := problem(line, "The file is not saved as UTF-8. In Notepad: Save as, Encoding: UTF-8.", "文件不是按 UTF-8 保存的。在记事本里:另存为,编码选 UTF-8。")
		return nil, &p
	}
	return raw, nil
}

// Report is the text of pipit-errors.txt: both languages, with the line ends that every
// editor shows.
func Report(problems []Problem) string {
	var b strings.Builder
	b.WriteString("\ufeffPipit 没有采用 pipit.yaml:下面的地方需要改正。改好后保存,把卡插回去,重新开机。\n" +
		"Pipit did not use pipit.yaml: what is listed here is to be mended. Save the file, put the card back, and switch the box on again.\n")
	for _, p := range problems {
		if p.Line > 0 {
			fmt.Fprintf(&b, "\n第 %d 行 / line %d\n", p.Line, p.Line)
		} else {
			b.WriteString("\n整个文件 / the file as a whole\n")
		}
		fmt.Fprintf(&b, "  %s\n  %s\n", p.ZH, p.EN)
	}
	return strings.ReplaceAll(b.String(), "\n", "\r\n")
}

// Complain writes the problems beside the file.
func Complain(folder string, problems []Problem) error {
	return writeFile(filepath.Join(folder, ErrorsName), []byte(Report(problems)), 0o644)
}

// Content removes what was complained about before.
func Content(folder string) error {
	if err := os.Remove(filepath.Join(folder, ErrorsName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
