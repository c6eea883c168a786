"The answers of a Zenodo record as our server gives them; `lie.json` says what is wrong in them."
import hashlib, itertools, json
BASE = 'http://127.0.0.1:0'
TABLE = b'filename,pixel size(mm),head circumference (mm)\n000_HC.png,0.1,200\n'

def record(files, base):
    "The JSON of a record."
    return dict(files=[dict(key=k, size=len(v), checksum='md5:' + hashlib.md5(v).hexdigest(),
                            links=dict(self=f'{base}/{k}')) for k, v in files.items()])

def answers(d):
    "path -> (status, headers, pieces)."
    archive = (d/'training_set.zip').read_bytes()
    files = {'training_set.zip': archive, 'training_set_pixel_size_and_HC.csv': TABLE}
    lie = json.loads((d/'lie.json').read_text()) if (d/'lie.json').exists() else {}
    def answer(path):
        base = 'http://' + answer.host
        if '/api/' not in path:
            body = files.get(path.lstrip('/'), b'')
            if lie.get('endless_file'): return 200, {}, itertools.repeat(bytes(1 << 16))
            if 'shorter' in lie: body = body[:-lie['shorter']]
            if 'other' in lie: body = bytes(len(body))
            return 200, {'Content-Length': str(len(body))}, [body]
        if lie.get('endless_record'): return 200, {}, itertools.repeat(b' '*(1 << 16))
        if 'body' in lie: return 200, {}, [lie['body'].encode('utf-8', 'surrogateescape')]
        doc = record(files, base)
        for k, v in lie.get('change', {}).items(): doc['files'][0][k] = v
        return lie.get('status', 200), {}, [json.dumps(doc).encode()]
    return answer
