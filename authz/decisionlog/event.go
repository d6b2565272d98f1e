package decisionlog

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/usher-authz/usher/authz/server"
)

// path is the document whose result the answers are.
const path = "usher/authz/decision"

// appendEvent appends the event of r in OPA's format (EventV1 of its
// v1/plugins/logs). The caller's own JSON stands in it as it came.
func appendEvent(dst, labels []byte, r *record) []byte {
	id := r.ids[1]
	if id == "" {
		id = uuid.NewString()
	}
	revision := r.decision.Revision.String()
	dst = append(dst, `{"labels":`...)
	dst = append(dst, labels...)
	dst = text(append(dst, `,"decision_id":`...), id)
	dst = text(append(dst, `,"bundles":{"usher":{"revision":`...), revision)
	dst = text(append(dst, `}},"path":`...), path)
	dst = appendInput(append(dst, `,"input":`...), r)
	dst = server.AppendDecision(append(dst, `,"result":`...), &r.decision)
	if r.cut { // as if a rule had said so
		dst = append(dst, `,"erased":["/input/context","/input/subject/properties","/input/action/properties","/input/resource/properties"]`...)
	}
	if r.ids[2] != "" {
		dst = text(append(dst, `,"requested_by":`...), r.ids[2])
	}
	dst = append(dst, `,"timestamp":"`...)
	dst = r.at.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","metrics":{"timer_server_handler_ns":`...)
	dst = append(strconv.AppendInt(dst, r.took.Nanoseconds(), 10), '}')
	return append(appendCustom(dst, r), '}')
}

// appendCustom appends what OPA's format has no place for: the caller's id, and what
// guardrails that only observe would have denied.
func appendCustom(dst []byte, r *record) []byte {
	if r.ids[0] == "" && len(r.decision.Observed) == 0 {
		return dst
	}
	dst = append(dst, `,"custom":{`...)
	if r.ids[0] != "" {
		dst = text(append(dst, `"x_request_id":`...), r.ids[0])
	}
	for i, observed := range r.decision.Observed {
		switch {
		case i > 0:
			dst = append(dst, ',')
		case r.ids[0] != "":
			dst = append(dst, `,"observed":[`...)
		default:
			dst = append(dst, `"observed":[`...)
		}
		dst = text(dst, observed)
	}
	if len(r.decision.Observed) > 0 {
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// appendInput appends the AuthZEN request.
func appendInput(dst []byte, r *record) []byte {
	q := &r.question
	dst = text(append(dst, `{"subject":{"type":`...), q.SubjectType)
	dst = text(append(dst, `,"id":`...), q.Subject)
	dst = member(dst, "properties", r.part(1))
	dst = text(append(dst, `},"action":{"name":`...), q.Action)
	dst = member(dst, "properties", r.part(2))
	dst = text(append(dst, `},"resource":{"type":`...), q.ResourceType)
	dst = text(append(dst, `,"id":`...), q.ResourceID)
	dst = append(member(dst, "properties", r.part(3)), '}')
	context := r.part(0)
	if len(context) == 0 && q.Explain {
		context = []byte(`{"explain":true}`)
	}
	return append(member(dst, "context", context), '}')
}

func member(dst []byte, name string, value []byte) []byte {
	if len(value) == 0 {
		return dst
	}
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	return append(append(dst, `":`...), value...)
}

func text(dst []byte, s string) []byte {
	quoted, err := jsontext.AppendQuote(dst, s)
	if err != nil { // not UTF-8: it stands there with replacements
		return quoted
	}
	return quoted
}
