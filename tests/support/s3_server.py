"""A server that speaks as much of S3's HTTP interface as `obstore` uses, with objects in memory.

It is strict where S3 is: an unknown bucket or key is refused in S3's words, a body has to have the digest that its request names, an upload in parts is invisible until it
is completed with the right parts in order, and each part but the last has at least 5 MiB. Signatures are not computed: a request counts by the key that it names.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PART_MIN = 5 * 1024 * 1024
KEY, SECRET = "AKIATEST", "s3cr3t-s3-k3y"


class S3Server:
    """See the module. A context manager that serves on loopback.

    Attributes:
        objects: Bucket -> key -> (bytes, time of writing).
        uploads: Upload -> (bucket, key, parts by number).
        requests: How many requests of each kind came, as `PUT`, `GET list`, `POST complete`.
        fails: Answers the next requests of a kind with 500, so many times.
    """

    def __init__(self, *buckets):
        self.objects = {bucket: {} for bucket in buckets}
        self.uploads = {}
        self.requests = Counter()
        self.fails = Counter()
        self.numbers = count(1)
        self.lock = threading.Lock()

    def __enter__(self):
        server = self

        class Handler(_Handler):
            s3 = server

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def environment(self):
        """The variables that lead there."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_address[1]}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }


class _Handler(BaseHTTPRequestHandler):
    s3 = None
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_PUT(self):
        self.answer()

    do_GET = do_HEAD = do_POST = do_DELETE = do_PUT  # noqa: N815  # named by `BaseHTTPRequestHandler`

    def answer(self):
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).removeprefix("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        with self.s3.lock:
            kind = " ".join([self.command, *self.kind(key, query)])
            self.s3.requests[kind] += 1
            if self.s3.fails[kind] > 0:
                self.s3.fails[kind] -= 1
                return self.refuse(500, "InternalError")
            signed = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization", ""))
            said = self.headers.get("x-amz-content-sha256", "")
            if signed is None:
                return self.refuse(403, "AccessDenied")
            if signed[1] != KEY:
                return self.refuse(403, "InvalidAccessKeyId")
            if bucket not in self.s3.objects:
                return self.refuse(404, "NoSuchBucket")
            if re.fullmatch(r"[0-9a-f]{64}", said) and hashlib.sha256(body).hexdigest() != said:
                return self.refuse(400, "XAmzContentSHA256Mismatch")
            return getattr(self, kind.lower().replace(" ", "_"))(bucket, key, query, body)

    @staticmethod
    def kind(key, query):
        """Yield what is asked beside the method."""
        for name, word in (("delete", "delete"), ("uploads", "begin")):
            if name in query:
                yield word
                return
        if "uploadId" in query:
            yield "part" if "partNumber" in query else "upload"
        elif not key:
            yield "list"

    # --- one object

    def put(self, bucket, key, query, body):
        self.s3.objects[bucket][key] = (body, time.time())
        self.reply(200, etag=hashlib.md5(body).hexdigest())

    def get(self, bucket, key, query, body):
        if key not in self.s3.objects[bucket]:
            return self.refuse(404, "NoSuchKey")
        data, written = self.s3.objects[bucket][key]
        return self.reply(200, data, etag=hashlib.md5(data).hexdigest(), written=written)

    head = get

    def delete(self, bucket, key, query, body):
        self.s3.objects[bucket].pop(key, None)
        self.reply(204)

    # --- many

    def get_list(self, bucket, key, query, body):
        found = sorted(each for each in self.s3.objects[bucket] if each.startswith(query.get("prefix", "")))
        found = [each for each in found if each > query.get("continuation-token", "")]
        some = found[: min(1000, int(query.get("max-keys", 1000)))]
        listed = "".join(
            f"<Contents><Key>{escape(each)}</Key><Size>{len(self.s3.objects[bucket][each][0])}</Size>"
            f"<LastModified>{time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime(self.s3.objects[bucket][each][1]))}</LastModified></Contents>"
            for each in some
        )
        more = (
            f"<NextContinuationToken>{escape(some[-1])}</NextContinuationToken>"
            if len(some) < len(found)
            else ""
        )
        self.xml("ListBucketResult", listed + more)

    def post_delete(self, bucket, key, query, body):
        gone = [each.decode() for each in re.findall(rb"<Key>(.*?)</Key>", body)]
        for each in gone:
            self.s3.objects[bucket].pop(each, None)
        self.xml("DeleteResult", "".join(f"<Deleted><Key>{each}</Key></Deleted>" for each in gone))

    # --- an upload in parts

    def post_begin(self, bucket, key, query, body):
        name = f"upload-{next(self.s3.numbers)}"
        self.s3.uploads[name] = (bucket, key, {})
        self.xml("InitiateMultipartUploadResult", f"<UploadId>{name}</UploadId>")

    def put_part(self, bucket, key, query, body):
        if query["uploadId"] not in self.s3.uploads:
            return self.refuse(404, "NoSuchUpload")
        self.s3.uploads[query["uploadId"]][2][int(query["partNumber"])] = body
        return self.reply(200, etag=hashlib.md5(body).hexdigest())

    def post_upload(self, bucket, key, query, body):
        if query["uploadId"] not in self.s3.uploads:
            return self.refuse(404, "NoSuchUpload")
        parts = self.s3.uploads[query["uploadId"]][2]
        named = re.findall(r"<Part>(.*?)</Part>", body.decode(), re.DOTALL)
        wanted = [
            (int(re.search(r"<PartNumber>(\d+)", each)[1]), re.search(r"[0-9a-f]{32}", each)[0])
            for each in named
        ]
        if [number for number, _ in wanted] != sorted({number for number, _ in wanted}):
            return self.refuse(400, "InvalidPartOrder")
        if any(
            number not in parts or hashlib.md5(parts[number]).hexdigest() != etag for number, etag in wanted
        ):
            return self.refuse(400, "InvalidPart")
        if any(len(parts[number]) < PART_MIN for number, _ in wanted[:-1]):
            return self.refuse(400, "EntityTooSmall")
        whole = b"".join(parts[number] for number, _ in wanted)
        del self.s3.uploads[query["uploadId"]]
        self.s3.objects[bucket][key] = (whole, time.time())
        return self.xml(
            "CompleteMultipartUploadResult", f"<ETag>{hashlib.md5(whole).hexdigest()}-{len(wanted)}</ETag>"
        )

    def delete_upload(self, bucket, key, query, body):
        self.s3.uploads.pop(query["uploadId"], None)
        self.reply(204)

    # --- answers

    def reply(self, status, data=b"", *, etag="", written=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if etag:
            self.send_header("ETag", f'"{etag}"')
        if written is not None:
            self.send_header(
                "Last-Modified", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(written))
            )
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def xml(self, name, inner, status=200):
        self.reply(status, f'<?xml version="1.0" encoding="UTF-8"?><{name}>{inner}</{name}>'.encode())

    def refuse(self, status, code):
        self.xml("Error", f"<Code>{code}</Code><Message>{code}</Message>", status)
