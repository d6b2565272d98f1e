package routes

import (
	"errors"
	"net/url"
	"strings"
)

// segments are the decoded parts of a request target's path, in order; none of "/".
// The error says why there is more than one way to read it.
func segments(target string) ([]string, error) {
	path, _, _ := strings.Cut(target, "?")
	if !strings.HasPrefix(path, "/") {
		return nil, errors.New("it does not begin with a slash")
	}
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c > '~' || c == '\\' || c == ';' || c == '#' {
			return nil, errors.New("it has a character that has no place in a path, or that means different things to different servers")
		}
	}
	if path == "/" {
		return nil, nil
	}
	parts := strings.Split(path[1:], "/")
	for i, part := range parts {
		decoded, err := url.PathUnescape(part)
		switch {
		case err != nil:
			return nil, errors.New("it has an escape that is none")
		case part == "":
			return nil, errors.New("it has an empty segment")
		case decoded == "." || decoded == "..":
			return nil, errors.New("it has a dot segment")
		case strings.ContainsFunc(decoded, func(r rune) bool { return r == '/' || r == '\\' || r == '%' || r == ';' || r < ' ' || r == 0x7f }):
			return nil, errors.New("it has an escaped character that must not be escaped in a path")
		}
		parts[i] = decoded
	}
	return parts, nil
}
