"""imagenet_resnet: ResNet-50 on ImageNet (AlgoPerf's workload at full size).

Data    ImageNet: 1,281,167 train, 50,000 validation pictures, 10,000 of ImageNet v2 as test; random-resized crops of 224x224.
Model   ResNet-50 (version 1.5: the 3x3 convolution of a block has the stride); the last norm of every block starts at 0. 25.6 M parameters.
Expect  accuracy 0.77431 on validation, 0.6560 on test: AlgoPerf's targets, set by heavy ball (arXiv 2306.07179).
From    He et al., Deep Residual Learning (arXiv 1512.03385). Reference input schedule: ``algorithm=progressive_resizing``, as in
        ffcv-imagenet's recipes, which train on smaller pictures first.
"""

from __future__ import annotations

from torch import nn
from torch.nn.functional import relu

from ..suite.task import Task
from .cifar10_cnn import forward, losses, metric, update


class Block(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; the channels that come out are four times those inside."""

    def __init__(self, channels_in, channels, stride):
        super().__init__()
        out = 4 * channels
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.conv3 = nn.Conv2d(channels, out, 1, bias=False)
        self.norm1, self.norm2, self.norm3 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels), nn.BatchNorm2d(out)
        nn.init.zeros_(self.norm3.weight)
        self.shortcut = nn.Identity()
        if stride != 1 or channels_in != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):  # [B, in, S, S] -> [B, 4 * channels, S / stride, S / stride]
        y = relu(self.norm1(self.conv1(x)))
        y = relu(self.norm2(self.conv2(y)))
        return relu(self.norm3(self.conv3(y)) + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, classes, depths, width):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        blocks, channels_in = [], width
        for level, depth in enumerate(depths):
            channels = width * 2**level
            for i in range(depth):
                blocks.append(Block(channels_in, channels, stride=2 if level and i == 0 else 1))
                channels_in = 4 * channels
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels_in, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):  # [B, 3, 224, 224] -> [B, classes]; any side will do
        return self.head(self.blocks(self.pool(self.stem(x))).mean(dim=(2, 3)))


def build_model(options, facts):
    return ResNet(facts["classes"], **options)


TASK = Task(("image", "label"), build_model, forward, losses, metric, update, label="label")
