-- Asks usher about a request: sets txn.usher_status to 200, 401 or 403, or to
-- something else where there was no answer.
local token = os.getenv("USHER_TOKEN") or ""

core.register_action("usher", { "http-req" }, function(txn)
	local client = core.httpclient()
	local answer = client:get({
		url = "http://127.0.0.1:8181/forward-auth",
		headers = {
			["Authorization"] = { "Bearer " .. token },
			["X-Original-Method"] = { txn.sf:method() },
			["X-Original-URI"] = { txn.sf:url() },
			["X-Account"] = { txn.sf:http_auth_user() },
		},
		timeout = 5000,
	})
	local subject = answer and answer.headers and answer.headers["usher-subject"]
	txn:set_var("txn.usher_status", answer and answer.status or 0)
	txn:set_var("txn.usher_text", answer and answer.body or "")
	txn:set_var("txn.usher_subject", subject and subject[0] or "")
end)
