package netloop

import (
	"bytes"
	"encoding/base64"
	"strings"
)

// maxHeadBytes bounds a request head: request line and header lines.
const maxHeadBytes = 8 << 10

// headError refuses a request: the HTTP status and a text that may leave the box.
type headError struct {
	status int
	reason string
}

func (e *headError) Error() string { return e.reason }

var (
	errHeadTooLong   = &headError{431, "request head over 8 KiB"}
	errNotHTTP       = &headError{400, "not an HTTP request"}
	errLineEnd       = &headError{400, "a line must end in CR LF"}
	errRequestLine   = &headError{400, "bad request line"}
	errVersion       = &headError{400, "HTTP/1.0 or HTTP/1.1 only"}
	errFolded        = &headError{400, "folded header line"}
	errHeaderName    = &headError{400, "bad header name"}
	errHeaderValue   = &headError{400, "control character in a header"}
	errHost          = &headError{400, "one Host header is needed"}
	errTwice         = &headError{400, "header given twice"}
	errFraming       = &headError{400, "both Content-Length and Transfer-Encoding"}
	errUpgradeMethod = &headError{400, "a WebSocket upgrade is a GET over HTTP/1.1"}
	errUpgradeBody   = &headError{400, "a WebSocket upgrade has no body"}
	errUpgradeHeader = &headError{400, "bad Upgrade or Connection header"}
	errUpgradeKey    = &headError{400, "bad Sec-WebSocket-Key"}
	errWSVersion     = &headError{426, "WebSocket version 13 only"}
	errSubprotocol   = &headError{400, "the subprotocol is not offered"}
)

// requestHead is a checked request head. Its slices point into the bytes it was
// parsed from.
type requestHead struct {
	method, target       []byte
	minor                byte // of HTTP/1.x
	host, origin         []byte
	cookie, userAgent    []byte
	upgrade, connection  []byte
	wsKey, wsVersion     []byte
	wsProtocols          [4][]byte // lines of Sec-WebSocket-Protocol; more than four is an error
	numProtocols         int
	hasLength, hasCoding bool
}

// headEnd looks for the end of a request head in p, of which the first from bytes
// were looked at before. It returns the length of the head, its empty line
// included, or 0 and where to go on when more arrived. A line that ends otherwise
// than in CR LF, a CR elsewhere, or a first byte that begins no method, is refused
// at once, so that a peer that talks something else is not waited for.
func headEnd(p []byte, from int) (n, scanned int, err *headError) {
	if from == 0 && len(p) > 0 && !isToken(p[0]) {
		return 0, 0, errNotHTTP
	}
	// What lies beyond the bound does not count, or the answer would depend on how
	// the bytes came.
	p = p[:min(len(p), maxHeadBytes)]
	for at := from; at < len(p); {
		i := bytes.IndexByte(p[at:], '\n')
		if i < 0 {
			break
		}
		at += i + 1
		if at < 2 || p[at-2] != '\r' {
			return 0, 0, errLineEnd
		}
		if at >= 4 && p[at-4] == '\r' && p[at-3] == '\n' {
			return at, at, nil
		}
	}
	if len(p) >= maxHeadBytes {
		return 0, 0, errHeadTooLong
	}
	return 0, len(p), nil
}

// parseHead checks a complete head (as headEnd delimits it) against RFC 9112 §2–5,
// stricter than it where a proxy and we could read one request differently.
func parseHead(p []byte) (h requestHead, err *headError) {
	line, rest, err := cutLine(p)
	if err != nil {
		return h, err
	}
	if err := h.requestLine(line); err != nil {
		return h, err
	}
	hosts := 0
	for {
		if line, rest, err = cutLine(rest); err != nil {
			return h, err
		}
		if len(line) == 0 {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			return h, errFolded
		}
		name, value, found := bytes.Cut(line, []byte{':'})
		if !found || len(name) == 0 {
			return h, errHeaderName
		}
		for _, b := range name {
			if !isToken(b) {
				return h, errHeaderName
			}
		}
		value = bytes.Trim(value, " \t")
		for _, b := range value {
			if b < ' ' && b != '\t' || b == 0x7f {
				return h, errHeaderValue
			}
		}
		if is(name, "host") {
			hosts++
		}
		if err := h.field(name, value); err != nil {
			return h, err
		}
	}
	if hosts > 1 || hosts == 0 && h.minor == 1 || !validHost(h.host) {
		return h, errHost
	}
	if h.hasLength && h.hasCoding {
		return h, errFraming
	}
	return h, nil
}

// cutLine takes one line that ends in CR LF off p.
func cutLine(p []byte) (line, rest []byte, err *headError) {
	i := bytes.IndexByte(p, '\n')
	if i < 1 || p[i-1] != '\r' {
		return nil, nil, errLineEnd
	}
	line, rest = p[:i-1], p[i+1:]
	if bytes.IndexByte(line, '\r') >= 0 {
		return nil, nil, errLineEnd
	}
	return line, rest, nil
}

func (h *requestHead) requestLine(line []byte) *headError {
	method, after, ok1 := bytes.Cut(line, []byte{' '})
	target, version, ok2 := bytes.Cut(after, []byte{' '})
	if !ok1 || !ok2 || len(method) == 0 || len(target) == 0 {
		return errRequestLine
	}
	for _, b := range method {
		if !isToken(b) {
			return errRequestLine
		}
	}
	for _, b := range target {
		if b <= ' ' || b >= 0x7f {
			return errRequestLine
		}
	}
	switch string(version) {
	case "HTTP/1.1":
		h.minor = 1
	case "HTTP/1.0":
	default:
		return errVersion
	}
	h.method, h.target = method, target
	return nil
}

func (h *requestHead) field(name, value []byte) *headError {
	var once *[]byte
	switch {
	case is(name, "host"):
		h.host = value
	case is(name, "origin"):
		once = &h.origin
	case is(name, "cookie"):
		once = &h.cookie
	case is(name, "user-agent"):
		once = &h.userAgent
	case is(name, "upgrade"):
		once = &h.upgrade
	case is(name, "connection"):
		once = &h.connection
	case is(name, "sec-websocket-key"):
		once = &h.wsKey
	case is(name, "sec-websocket-version"):
		once = &h.wsVersion
	case is(name, "sec-websocket-protocol"):
		if h.numProtocols == len(h.wsProtocols) {
			return errTwice
		}
		h.wsProtocols[h.numProtocols] = value
		h.numProtocols++
	case is(name, "content-length"):
		h.hasLength = true
	case is(name, "transfer-encoding"):
		h.hasCoding = true
	}
	if once != nil {
		if *once != nil {
			return errTwice
		}
		// Never nil again, not even for an empty value.
		*once = value[:len(value):len(value)]
		if *once == nil {
			*once = []byte{}
		}
	}
	return nil
}

// path is the target up to the query.
func (h *requestHead) path() (path, query []byte) {
	path, query, _ = bytes.Cut(h.target, []byte{'?'})
	return path, query
}

// wantsWebSocket tells whether the request asks for path to become a WebSocket.
// Everything else, a mere GET of path too, is net/http's to answer.
func (h *requestHead) wantsWebSocket(path string) bool {
	p, _ := h.path()
	return string(p) == path && hasListItem(h.upgrade, "websocket")
}

// checkUpgrade judges a head that wantsWebSocket (RFC 6455 §4.2.1, PROTOCOL 1.1).
func (h *requestHead) checkUpgrade(subprotocol string) *headError {
	switch {
	case string(h.method) != "GET" || h.minor != 1:
		return errUpgradeMethod
	case h.hasLength || h.hasCoding:
		return errUpgradeBody
	case !is(h.upgrade, "websocket") || !isTokenList(h.connection) || !hasListItem(h.connection, "upgrade"):
		return errUpgradeHeader
	case string(h.wsVersion) != "13":
		return errWSVersion
	}
	var key [18]byte // what the decoder may write for 24 digits; 16 bytes are a key
	if n, err := base64.StdEncoding.Strict().Decode(key[:], padKey(h.wsKey)); err != nil || n != 16 {
		return errUpgradeKey
	}
	if subprotocol == "" {
		return nil
	}
	for _, line := range h.wsProtocols[:h.numProtocols] {
		if !isTokenList(line) {
			return errSubprotocol
		}
	}
	for _, line := range h.wsProtocols[:h.numProtocols] {
		for item := range bytes.SplitSeq(line, []byte{','}) {
			if string(bytes.Trim(item, " \t")) == subprotocol { // case matters here
				return nil
			}
		}
	}
	return errSubprotocol
}

// padKey returns key if it has the right length, else something that does not
// decode: base64's decoder writes as much as it is given.
func padKey(key []byte) []byte {
	if len(key) != 24 {
		return []byte("!")
	}
	return key
}

// hasListItem tells whether a comma-separated header value has item, in any case.
func hasListItem(value []byte, item string) bool {
	for v := range bytes.SplitSeq(value, []byte{','}) {
		if is(bytes.Trim(v, " \t"), item) {
			return true
		}
	}
	return false
}

// isTokenList tells whether a comma-separated header value holds tokens only
// (RFC 9110 §7.6.1 for Connection, RFC 6455 §4.1 for the subprotocols); empty
// items are let pass.
func isTokenList(value []byte) bool {
	for v := range bytes.SplitSeq(value, []byte{','}) {
		for _, b := range bytes.Trim(v, " ") { // the library takes no tab here
			if !isToken(b) {
				return false
			}
		}
	}
	return true
}

// is compares ASCII without regard to case; want is in lower case.
func is(p []byte, want string) bool {
	if len(p) != len(want) {
		return false
	}
	for i, b := range p {
		if b >= 'A' && b <= 'Z' {
			b += 'a' - 'A'
		}
		if b != want[i] {
			return false
		}
	}
	return true
}

// isToken tells whether b may stand in a token (RFC 9110 §5.6.2).
func isToken(b byte) bool {
	switch {
	case b >= '0' && b <= '9', b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
}

// validHost accepts what can be a host and port (RFC 9110 §7.2), an empty one too;
// whether it is ours is not asked here.
func validHost(p []byte) bool {
	for _, b := range p {
		switch {
		case b >= '0' && b <= '9', b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z':
		case strings.IndexByte("-._~!$&'()*+,;=:[]%", b) >= 0:
		default:
			return false
		}
	}
	return true
}
