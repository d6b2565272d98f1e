package rest

import (
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

// strict is how bodies under /v1 are read: an unknown key is refused, and so,
// by the decoder's own rules, are duplicate keys, names in other case and invalid
// UTF-8. null stands only where it means something.
func strict() json.Options {
	return json.JoinOptions(
		json.RejectUnknownMembers(true),
		json.WithUnmarshalers(json.UnmarshalFromFunc(refuseNull)),
	)
}

var errNull = errors.New("null")

// refuseNull lets null stand only where it means something: a group at the
// root, a grant for ever.
func refuseNull(d *jsontext.Decoder, v any) error {
	if d.PeekKind() != 'n' {
		return errors.ErrUnsupported
	}
	switch v.(type) {
	case **policies.GroupID, **timestamp:
		return errors.ErrUnsupported
	}
	return errNull
}

// decode reads data, one JSON value, into v. Every error is a
// [policies.MalformedError].
func decode(data []byte, v any) error {
	err := json.Unmarshal(data, v, strict())
	var semantic *json.SemanticError
	if errors.Is(err, errNull) && errors.As(err, &semantic) {
		return &policies.MalformedError{Where: string(semantic.JSONPointer), Reason: "must not be null"}
	}
	if err != nil {
		return policies.Malformed(data, err)
	}
	return nil
}

// readBody reads the JSON body of r, at most limit bytes.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if err := checkMediaType(r, "application/json"); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		return nil, bodyError(err)
	}
	if len(data) == 0 {
		return nil, &policies.MalformedError{Reason: "a JSON body is needed"}
	}
	return data, nil
}

// bodyError tells what went wrong while a body was read.
func bodyError(err error) error {
	var (
		tooLarge *http.MaxBytesError
		network  net.Error
	)
	switch {
	case errors.As(err, &tooLarge):
		return err
	case errors.As(err, &network) && network.Timeout():
		return NewProblem(problemTimeout, "The body did not arrive in time.")
	}
	return &policies.MalformedError{Reason: "the body could not be read to its end"}
}

// checkMediaType refuses a body of another type than those taken, with 415.
func checkMediaType(r *http.Request, taken ...string) error {
	refused := NewProblem(problemMediaType, "Content-Type must be "+strings.Join(taken, " or ")+".")
	if len(r.Header.Values("Content-Encoding")) > 0 {
		return NewProblem(problemMediaType, "The body must not be compressed.")
	}
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return refused
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return NewProblem(problemMediaType, "The charset must be UTF-8.")
	}
	if !slices.Contains(taken, media) {
		return refused
	}
	return nil
}
