"""``"ENGINE": "fastpool.contrib.django.mysql"``; it is in ``base``, as Django has it."""
