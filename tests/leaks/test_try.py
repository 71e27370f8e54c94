import pytest
from tests.leaks.watched import *
from tests.leaks.conftest import *
@pytest.mark.parametrize("style", STYLES, ids=lambda s: s.name)
def test_try(watched, style):
    f = watched(style)
    f.add("web1"); 
    t=time.time()
    run = f.rotate()
    t2=time.time()
    leaks = f.leaks()
    print(str(run)[:9000], round(t2-t,2), round(time.time()-t2,2))
    for p in sorted(f.folder.rglob("*")): print(p.relative_to(f.folder), p.stat().st_size)
    for l in leaks: print(l)
    assert 0
